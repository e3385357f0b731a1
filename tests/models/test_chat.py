"""Chat templates: rendered as transformers renders them, submitted without a second BOS."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import REVIEWS, cell, sweep, task

from packsweep.errors import ModelError
from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import resolve
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import cells as plan_cells
from packsweep.run.measure.workload import Workload
from packsweep.run.task import task_from_json
from packsweep.sweep import prompts, spec
from packsweep.sweep.prompts import Asking
from packsweep.sweep.strategies import Strategy

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "[{{ message['role'] }}]{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
CHAT = ChatTemplate(text=TEMPLATE, bos_token="<s>", eos_token="</s>")  # noqa: S106  # no password
# What templates of the hub make use of, beyond plain Jinja.
SPECIAL = [
    "{% for m in messages %}{% if m.x %}{% continue %}{% endif %}!{% break %}{% endfor %}",
    "{{ messages | tojson }}",
    "{{ messages[0] | tojson(indent=2) }}",
    "{% if tools is not none %}tools{% endif %}{{ documents is none }}",
    "{% for m in messages %}\n    {{ m['content'] | trim }}\n{% endfor %}\n",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}!",
    "{%- set ns = namespace(x=1) -%}{{ ns.x }}{{ messages[-1]['content'] }}",
]


def test_render() -> None:
    """The user says the content, special tokens are text, the answer comes next."""
    assert CHAT.render("good?") == "<s>[user]good?</s>\n[assistant]"


@pytest.fixture(scope="session")
def render_jinja_template() -> Any:
    """transformers' own renderer."""
    return pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("template", [TEMPLATE, *SPECIAL])
@given(content=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@settings(deadline=None)  # the first call compiles the template
def test_render_as_transformers(
    render_jinja_template: Any,
    template: str,
    content: str,
) -> None:
    """The text is that of transformers' own renderer."""
    rendered = render_jinja_template(
        conversations=[[{"role": "user", "content": content}]],
        chat_template=template,
        add_generation_prompt=True,
        bos_token="<s>",  # noqa: S106  # no password
        eos_token="</s>",  # noqa: S106  # no password
    )[0]
    chat = ChatTemplate(text=template, bos_token="<s>", eos_token="</s>")  # noqa: S106
    assert chat.render(content) == rendered[0]


def test_render_day_fixed() -> None:
    """A template that writes the date writes the same one every day, or cells would change."""
    assert ChatTemplate(text="{{ strftime_now('%d %b %Y') }}").render("x") == "26 Jul 2024"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('a system message\nis needed') }}",
        "{% for %}",
        "{{ messages.append(1) }}",
        "{{ messages[0] + 1 }}",
    ],
)
def test_render_refused(template: str) -> None:
    """A template that cannot be used is one line, and cannot change what it is given."""
    with pytest.raises(ModelError, match=r"chat template cannot be rendered: .") as caught:
        ChatTemplate(text=template).render("x")
    assert "\n" not in str(caught.value)


def _build(strategy: Strategy, place: spec.Instruction = "after") -> list[str]:
    asking = Asking(strategy=strategy, instruction=place, template="chat")
    built = prompts.build(REVIEWS[:2], asking, chat=CHAT)
    assert not any(prompt.add_special_tokens for prompt in built)
    return [prompt.text for prompt in built]


def test_build_separate() -> None:
    """One comment is asked in the corrected wording, within the template."""
    corrected = prompts.TEMPLATES["corrected"].one_after
    content = f"text0\n{corrected.removesuffix(chr(10))}"
    assert _build("separate")[0] == f"<s>[user]{content}</s>\n[assistant]"


def test_build_packed_before() -> None:
    """Placed before, the sentence begins what the user says; no line break ends it."""
    assert _build("packed", "before")[0].startswith("<s>[user]For each line of the comments below")
    assert _build("packed", "before")[0].endswith("text0\ntext1</s>\n[assistant]")


def test_build_packed_asks_for_lines() -> None:
    """Many comments are to be answered a line each."""
    assert (
        "one line for each comment, only positive or negative on each line" in _build("packed")[0]
    )


@pytest.fixture(scope="session")
def chat_model(byte_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The byte model with a chat template, and a tokenizer that puts <s> before every text."""
    from tokenizers import Tokenizer, processors

    folder = tmp_path_factory.mktemp("chat") / "bytes"
    shutil.copytree(byte_model, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 256)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 258}))
    named = {"chat_template": TEMPLATE, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


def _sweep(model: Path, **tables: dict[str, Any]) -> spec.Sweep:
    return sweep(model={"name": str(model)}, **tables)


def test_tokenizer_chat(chat_model: Path) -> None:
    """The chat template comes with the special tokens that it may write."""
    assert load_tokenizer(resolve(str(chat_model), load_format="dummy")).chat == CHAT


def test_encode_chat_single_bos(chat_model: Path) -> None:
    """A rendered text is tokenized as it is: its first token is <s>, once."""
    tokenizer = load_tokenizer(resolve(str(chat_model), load_format="dummy"))
    text = CHAT.render("hi")
    assert tokenizer.encode([text], add_special_tokens=False)[0].count(256) == 1
    assert tokenizer.encode([text])[0].count(256) == 2


@pytest.mark.parametrize(("template", "extra"), [("original", 1), ("chat", 0)])
def test_plan_counts_special_tokens(chat_model: Path, template: str, extra: int) -> None:
    """The plan adds special tokens to plain texts alone: a byte a token, <s> and </s> one each."""
    made = plan_cells.make(
        _sweep(chat_model, grid={"strategy": "separate", "template": template, "n": 1})
    )
    planned = made.cells[0]
    (prompt,) = planned.cell.build_prompts(made.texts, made.chat)
    plain = prompt.text.replace("<s>", "1").replace("</s>", "2")
    assert planned.prompt_tokens == len(plain.encode()) + extra


def test_plan_no_chat_template(byte_model: Path) -> None:
    """A model without a chat template is refused before anything runs, with what to do."""
    with pytest.raises(ModelError, match=r"has no chat template; take another template"):
        plan_cells.make(_sweep(byte_model, grid={"template": ["original", "chat"]}))


def test_plan_no_chat_template_unused(byte_model: Path) -> None:
    """Other templates need none."""
    assert plan_cells.make(_sweep(byte_model)).chat is None


def test_cell_id_other_chat_template(chat_model: Path, tmp_path: Path) -> None:
    """The template is in the prompts' hash, and so in the name."""
    other = shutil.copytree(chat_model, tmp_path / "other")
    (other / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": TEMPLATE + " ", "bos_token": "<s>"})
    )
    hashes = {
        plan_cells.make(_sweep(model, grid={"template": "chat"})).cells[0].cell.prompts_sha256
        for model in (chat_model, other)
    }
    assert len(hashes) == 2


def test_task_round_trip() -> None:
    """A worker is given the chat template that the plan rendered with."""
    from dataclasses import replace

    original = replace(task(cell(template="chat"), "results"), chat=CHAT)
    assert task_from_json(original.to_json()) == original
    assert task_from_json(task(cell(), "results").to_json()).chat is None


def test_workload_chat() -> None:
    """Every request of a chat, warm-up included, is tokenized as it is."""
    work = Workload.of(cell(template="chat"), REVIEWS, CHAT)
    every = [*work.requests, *work.warmup]
    assert [request.add_special_tokens for request in every] == [False] * len(every)
    assert work.requests[0].text.startswith("<s>[user]")
