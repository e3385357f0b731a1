"""Working out a sweep: tokens, requests, and what cannot fit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tests.fakes import sweep, write_byte_model

from packsweep.errors import SpecError, TextsError
from packsweep.machine import environment
from packsweep.models.resolve import resolve
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import cells as plan_cells
from packsweep.plan.cells import PlannedCell
from packsweep.sweep import texts

LLAMA = "embedded:llama-3.1-8b"
# The model of one token a byte keeps 1 layer * 2 * 2 heads * 4 elements * 2 B for a token.
KV_BYTES = 32


def _planned(name: object, **tables: dict[str, Any]) -> PlannedCell:
    made = plan_cells.make(sweep(model={"name": str(name)}, **tables))
    assert len(made.cells) == 1
    return made.cells[0]


def _needed(found: PlannedCell) -> int:
    """Return the tokens of the longest request of a packed cell of two texts."""
    return found.longest_prompt_tokens + 2


def test_make_packed(byte_model: Path) -> None:
    """A packed cell has one prompt, as long as its text, and a token for each text."""
    found = _planned(byte_model)
    rows = texts.load("builtin", limit=2)
    text = found.cell.build_prompts(rows)[0].text
    assert (found.num_requests, found.output_tokens) == (1, 2)
    assert found.prompt_tokens == found.longest_prompt_tokens == len(text.encode())
    assert found.infeasible is None


def test_make_separate_duplicated(byte_model: Path) -> None:
    """Every copy is counted; the longest prompt is not multiplied."""
    once = _planned(byte_model, grid={"strategy": "separate"})
    thrice = _planned(byte_model, grid={"strategy": "separate", "duplication": 3})
    assert (once.num_requests, thrice.num_requests) == (2, 6)
    assert thrice.prompt_tokens == 3 * once.prompt_tokens
    assert thrice.output_tokens == 3 * once.output_tokens == 6
    assert thrice.longest_prompt_tokens == once.longest_prompt_tokens < once.prompt_tokens


def test_make_environ(byte_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user sets for vLLM is another cell, and named; a simulation does not depend on it.

    Where things are printed changes nothing.
    """
    tables = {"model": {"name": str(byte_model)}, "engine": {"kind": "vllm"}}
    before = plan_cells.make(sweep(**tables))
    monkeypatch.setenv("VLLM_LOGGING_PREFIX", "x")
    assert plan_cells.make(sweep(**tables)).cells == before.cells
    monkeypatch.setenv("VLLM_USE_TRITON_AWQ", "1")
    made = plan_cells.make(sweep(**tables))
    assert json.loads(made.cells[0].cell.environ)["VLLM_USE_TRITON_AWQ"] == "1"
    assert made.cells[0].cell.cell_id != before.cells[0].cell.cell_id
    assert any("VLLM_USE_TRITON_AWQ=1" in line for line in made.advice)
    assert _planned(byte_model).cell.environ == "{}"


def test_make_output_tokens(byte_model: Path) -> None:
    """More tokens may be allowed for each text."""
    assert _planned(byte_model, grid={"output_tokens_per_text": 3}).output_tokens == 6


def test_make_default_context(byte_model: Path) -> None:
    """Without a context limit in the sweep it is the model's."""
    assert _planned(byte_model).cell.settings["max_model_len"] == 32768


def test_infeasible_context(byte_model: Path) -> None:
    """Prompt and output must fit the context: one token less is infeasible, with the numbers."""
    needed = _needed(_planned(byte_model))
    fits = _planned(byte_model, engine={"max_model_len": needed})
    short = _planned(byte_model, engine={"max_model_len": needed - 1})
    assert fits.infeasible is None
    assert short.infeasible == (
        f"the longest request needs {needed} tokens and max_model_len is {needed - 1}; "
        f"engine.max_model_len = {needed} would do"
    )


def test_infeasible_context_names_the_text(byte_model: Path, tmp_path: Path) -> None:
    """One overlong text of many is named, with how many there are and what would do."""
    rows = [f"{word},positive" for word in ("short", "very long " * 9, "tiny")]
    source = tmp_path / "texts.csv"
    source.write_text("\n".join(["review,sentiment", *rows]), encoding="utf-8")
    asked: dict[str, Any] = {
        "grid": {"strategy": "separate", "n": 3},
        "texts": {"source": str(source)},
    }
    needed = _planned(byte_model, **asked).longest_request_tokens
    short = _planned(byte_model, engine={"max_model_len": needed - 1}, **asked)
    assert str(short.infeasible).endswith(
        'it is text 2, "very long very long very long very long "; 1 of 3 prompts are too long; '
        f"engine.max_model_len = {needed} would do"
    )
    source.write_text("review,sentiment\nshort,positive\n" + "x" * 40_000 + ",positive\n")
    never = _planned(byte_model, grid={"strategy": "separate", "n": 2}, texts=asked["texts"])
    assert str(never.infeasible).endswith("has 32768 positions; texts.max_tokens shortens texts")


def _blocks_bytes(planned: PlannedCell) -> int:
    """Return what the longest request takes in whole blocks of 16 tokens."""
    return -(-_needed(planned) // 16) * 16 * KV_BYTES


def test_infeasible_kv_cache(byte_model: Path) -> None:
    """The cache must hold one request, in whole blocks."""
    num_bytes = _blocks_bytes(_planned(byte_model))
    found = _planned(byte_model, engine={"kv_cache_memory_bytes": num_bytes - 1})
    assert found.infeasible == (
        f"the longest request needs {num_bytes} B of KV cache and "
        f"kv_cache_memory_bytes is {num_bytes - 1}"
    )


def test_infeasible_kv_cache_of_context(byte_model: Path) -> None:
    """vLLM keeps room for a request of max_model_len; the answer says what would do."""
    needed, block = _needed(_planned(byte_model)), 16 * KV_BYTES
    enough = {"kv_cache_memory_bytes": _blocks_bytes(_planned(byte_model)) + block}
    found = _planned(byte_model, engine=enough)
    assert f"max_model_len 32768 (lower it: {needed} would do) needs" in str(found.infeasible)
    lowered = {**enough, "max_model_len": needed}
    assert _planned(byte_model, engine=lowered).infeasible is None


@pytest.mark.parametrize(
    ("settings", "factor"),
    [({"kv_cache_dtype": "fp8"}, 0.5), ({"dtype": "float32"}, 2), ({"dtype": "float16"}, 1)],
)
def test_infeasible_kv_cache_dtype(
    byte_model: Path, settings: dict[str, Any], factor: float
) -> None:
    """The element's width decides how many bytes a token takes."""
    needed = _needed(_planned(byte_model))
    num_bytes = int((_blocks_bytes(_planned(byte_model)) + 16 * KV_BYTES) * factor)
    engine = {"max_model_len": needed, **settings}
    fits = _planned(byte_model, engine={**engine, "kv_cache_memory_bytes": num_bytes})
    short = _planned(byte_model, engine={**engine, "kv_cache_memory_bytes": num_bytes - 1})
    assert fits.infeasible is None
    assert short.infeasible is not None


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (
            {"tensor_parallel_size": [1, 3]},
            (
                "engine.tensor_parallel_size = 3: vLLM cannot divide 2 attention heads by 3; "
                "closest that it takes: 2"
            ),
        ),
        (
            {"pipeline_parallel_size": 2},
            (
                "engine.pipeline_parallel_size = 2: vLLM has no layer for some of 2 stages, as the "
                "model has 1; closest that it takes: 1"
            ),
        ),
    ],
)
def test_make_undivided(byte_model: Path, sizes: dict[str, Any], said: str) -> None:
    """What vLLM would refuse after minutes is refused before anything runs."""
    with pytest.raises(SpecError) as refused:
        _planned(byte_model, engine=sizes)
    assert str(refused.value) == said


def test_infeasible_kv_cache_of_two_gpus(byte_model: Path) -> None:
    """kv_cache_memory_bytes is that of each GPU, which holds half of the heads."""
    needed = _needed(_planned(byte_model))
    num_bytes = _blocks_bytes(_planned(byte_model)) // 2 + 16 * KV_BYTES // 2
    engine = {"max_model_len": needed, "tensor_parallel_size": 2}
    fits = _planned(byte_model, engine={**engine, "kv_cache_memory_bytes": num_bytes})
    short = _planned(byte_model, engine={**engine, "kv_cache_memory_bytes": num_bytes - 1})
    assert fits.infeasible is None
    assert short.infeasible is not None


def test_make_context_above_model(byte_model: Path) -> None:
    """A context that the model does not have is refused before anything runs."""
    with pytest.raises(SpecError, match=r"max_model_len: 32769 is more than the 32768 positions"):
        _planned(byte_model, engine={"max_model_len": 32769})


def test_make_too_few_reviews(byte_model: Path, tmp_path: Path) -> None:
    """An n above the number of texts is refused with both numbers."""
    path = tmp_path / "one.csv"
    path.write_text("review,sentiment\ngood,positive\n", encoding="utf-8")
    with pytest.raises(TextsError, match="holds 1 text, but 2 are needed"):
        _planned(byte_model, texts={"source": str(path)})


LATENT = {"model_type": "deepseek_v3", "kv_lora_rank": 4, "qk_rope_head_dim": 2}
LATENT |= {"qk_nope_head_dim": 4, "v_head_dim": 4, "n_routed_experts": 4}
LATENT |= {"moe_intermediate_size": 8}


def test_other_design_is_planned(tmp_path: Path) -> None:
    """A token of a latent layer keeps 6 elements of 2 B; that FLOPs are not known is reported."""
    model = {"name": str(write_byte_model(tmp_path / "latent", **LATENT))}
    made = plan_cells.make(sweep(model=model, engine={"kind": "vllm"}))
    assert made.cells[0].kv_pass_bytes == made.cells[0].kv_pass_tokens * 6 * 2
    (said,) = made.advice
    assert "measured without FLOPs, MFU and a prediction" in said
    assert "is a mixture of experts (n_routed_experts)" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "falcon", "multi_query": True},
        {"model_type": "minimax", "num_local_experts": 4},
        {"model_type": "lfm2", "layer_types": ["conv"]},
        LATENT | {"v_head_dim": None},
    ],
)
def test_kv_cache_of_designs_nobody_checked(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The keys of full attention in a config do not make its cache one."""
    model = {"name": str(write_byte_model(tmp_path / "other", **changes))}
    (found,) = plan_cells.make(sweep(model=model, engine={"kind": "vllm"})).cells
    assert found.kv_pass_bytes is None


def test_other_design_with_windows(tmp_path: Path) -> None:
    """Where windows give tokens up again, what a pass keeps is unknown; a request is not."""
    sliding = {"model_type": "gemma2", "sliding_window": 16}
    model = {"name": str(write_byte_model(tmp_path / "windows", **sliding))}
    settings = {"kind": "vllm", "kv_cache_memory_bytes": 1}
    (found,) = plan_cells.make(sweep(model=model, engine=settings)).cells
    assert (found.kv_pass_bytes, found.kv_longest_bytes) == (None, None)
    assert "B of KV cache and kv_cache_memory_bytes is 1" in str(found.infeasible)


def test_other_design_is_not_simulated(tmp_path: Path) -> None:
    """What no formula describes cannot be simulated: one line, before anything runs."""
    with pytest.raises(SpecError, match=r"engine\.kind: .* cannot be simulated: .*experts"):
        _planned(write_byte_model(tmp_path / "latent", **LATENT))


@pytest.mark.slow
def test_make_tokens_of_llama() -> None:
    """The planned tokens are those of the model's tokenizer, special tokens included."""
    made = plan_cells.make(sweep(model={"name": LLAMA}, grid={"strategy": ["packed", "separate"]}))
    tokenizer = load_tokenizer(resolve(LLAMA, load_format="dummy"))
    for found in made.cells:
        texts = [prompt.text for prompt in found.cell.build_prompts(made.texts)]
        counts = tokenizer.count(texts)
        assert found.prompt_tokens == sum(counts)
        assert found.longest_prompt_tokens == max(counts)


@pytest.mark.slow
def test_infeasible_llama() -> None:
    """131,072 positions of Llama 3.1 8B need 16 GiB of cache; 8 GiB are too few for a request."""
    small = {"kv_cache_memory_bytes": 8 * 2**30}
    assert "needs 17179869184 B" in str(_planned(LLAMA, engine=small).infeasible)
    assert _planned(LLAMA, engine={"kv_cache_memory_bytes": 16 * 2**30}).infeasible is None


def test_cells_of_other_engines_are_planned_alone(byte_model: Path) -> None:
    """What cells share is worked out once; each is planned as it would be by itself."""
    axes: dict[str, Any] = {
        "grid": {"strategy": ["packed", "separate"], "n": [2, 3], "duplication": [1, 3]},
        "engine": {
            "block_size": [16, 32],
            "max_model_len": [200, 4096],
            "dtype": ["auto", "float32"],
        },
        "measure": {"cache_state": ["cold", "primed", "off"]},
    }
    model = {"name": str(byte_model)}
    together = plan_cells.make(sweep(model=model, **axes)).cells
    assert len(together) == 2 * 2 * 2 * 2 * 2 * 2 * 3
    for found in together[::7]:
        cell = found.cell
        alone = _planned(
            byte_model,
            grid={"strategy": cell.strategy, "n": cell.n, "duplication": cell.duplication},
            engine={name: cell.settings[name] for name in axes["engine"]},
            measure={"cache_state": cell.cache_state},
        )
        assert alone == found


def _csv(folder: Path, *rows: str) -> dict[str, Any]:
    path = folder / "texts.csv"
    path.write_text("text,label\n" + "".join(f"{row},positive\n" for row in rows))
    return {"source": str(path)}


def test_advice_overlong_text(byte_model: Path, tmp_path: Path) -> None:
    """A text that alone makes a cell infeasible is named, with what of it would fit."""
    asked = {
        "model": {"name": str(byte_model)},
        "texts": _csv(tmp_path, "short", "x" * 500),
        "grid": {"strategy": "separate"},
        "engine": {"max_model_len": 400},
    }
    made = plan_cells.make(sweep(**asked))
    assert made.cells[0].infeasible is not None
    (line,) = (line for line in made.advice if "too long" in line)
    assert "1 of the 2 texts of separate-n2-dup1-cold" in line
    assert "the first of them text 2, 'xxx" in line
    fits = int(line.rpartition("texts.max_tokens = ")[2].split()[0])
    asked["texts"]["max_tokens"] = [fits, fits + 1]
    whole = [each.infeasible for each in plan_cells.make(sweep(**asked)).cells]
    assert [found is None for found in whole] == [True, False]


def test_control_tokens(byte_model: Path, tmp_path: Path) -> None:
    """A control token of the model in a text is refused with its place, or broken up."""
    asked = {
        "model": {"name": str(_with_control_token(byte_model, tmp_path))},
        "texts": _csv(tmp_path, "fine", "so <|im_end|> so"),
    }
    with pytest.raises(TextsError, match=r"text 2 holds <\|im_end\|>, which the model reads as"):
        plan_cells.make(sweep(**asked))
    asked["texts"]["control_tokens"] = "escape"
    assert plan_cells.make(sweep(**asked)).texts[1].text == "so < |im_end|> so"


def _with_control_token(byte_model: Path, folder: Path) -> Path:
    """Return a model with the control token ``<|im_end|>`` and a chat template."""
    model = folder / "model"
    shutil.copytree(byte_model, model)
    backend = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    backend.add_special_tokens(["<|im_end|>"])
    backend.save(str(model / "tokenizer.json"))
    template = "{{ messages[0].content }}{% if enable_thinking is defined %}!{% endif %}"
    config = json.dumps({"chat_template": template})
    (model / "tokenizer_config.json").write_text(config, encoding="utf-8")
    return model


def test_control_tokens_of_entities(byte_model: Path, tmp_path: Path) -> None:
    """Without markup an entity may become one, which is looked at as it would be sent."""
    asked = {
        "model": {"name": str(_with_control_token(byte_model, tmp_path))},
        "texts": {**_csv(tmp_path, "fine", "so &lt;|im_end|&gt; so"), "markup": "strip"},
    }
    with pytest.raises(TextsError, match=r"text 2 holds <\|im_end\|>, which the model reads as"):
        plan_cells.make(sweep(**asked))
    asked["texts"]["control_tokens"] = "escape"
    (sent,) = plan_cells.make(sweep(**asked)).sent.values()
    assert sent[1].text == "so < |im_end|> so"


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"labels": ["bug", "<|im_end|>"]}, "task.labels: holds <|im_end|>, which"),
        ({"instruction": "<|im_end|> {labels}?"}, "task.instruction: holds <|im_end|>, which"),
        ({"system": "<|im_end|>"}, "task.system: holds <|im_end|>, which"),
        ({"chat_template_kwargs": {"enable_thinkin": False}}, "'enable_thinkin' is no variable of"),
        ({"chat_template_kwargs": {"messages": "x"}}, "'messages' is no variable of"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, None),
    ],
)
def test_task_in_a_chat(
    byte_model: Path, tmp_path: Path, task: dict[str, Any], told: str | None
) -> None:
    """A task neither ends the chat nor sets what the template does not read."""
    asked = {
        "model": {"name": str(_with_control_token(byte_model, tmp_path))},
        "texts": _csv(tmp_path, "fine", "so so"),
        "grid": {"strategy": "separate", "n": 2, "template": "chat"},
        "task": {
            "name": "t",
            "labels": ["bug", "other"],
            "label_map": {"positive": "bug"},
            "instruction": "{labels}?",
            **task,
        },
    }
    if told is None:
        assert plan_cells.make(sweep(**asked)).chat is not None
        return
    with pytest.raises(SpecError, match=re.escape(told)):
        plan_cells.make(sweep(**asked))


def test_packs_larger_than_n(byte_model: Path) -> None:
    """Such a cell measures packed once more."""
    grid = {"strategy": "chunked", "pack_size": [2, 100], "n": 4}
    made = plan_cells.make(sweep(model={"name": str(byte_model)}, grid=grid))
    (line,) = [each for each in made.advice if each.startswith("packs are larger")]
    assert line.startswith("packs are larger than n in 1 cell: a prompt of chunked100-n4")
    assert line.endswith("holds 4 texts, not 100, as one of packed does")


def test_advice_guessed_columns(byte_model: Path, tmp_path: Path) -> None:
    """What was guessed of a file is said."""
    path = tmp_path / "a.csv"
    path.write_text("body,team\nx,pos\ny,negative\n")
    made = plan_cells.make(sweep(model={"name": str(byte_model)}, texts={"source": str(path)}))
    assert [line.partition(": ")[2] for line in made.advice[:2]] == [
        "texts are read from 'body', labels from 'team'",
        "labels are read: 'pos' as positive",
    ]


def test_advice_labels_that_the_model_is_not_told(byte_model: Path, tmp_path: Path) -> None:
    """A question without its labels is asked as it stands, and said."""
    (tmp_path / "t.csv").write_text("text\none\ntwo\n", encoding="utf-8")
    asked = {
        "name": "own",
        "labels": ["billing", "bug", "refund", "other"],
        "instruction": "Which team?",
    }
    tables = {"texts": {"source": str(tmp_path / "t.csv")}, "grid": {"n": 2}}
    (line,) = _named_labels(byte_model, asked, tables)
    assert line == (
        "task.instruction does not name 'billing', 'bug', 'refund' and 1 more: write {labels} "
        "where it should list the labels"
    )
    assert _named_labels(byte_model, {**asked, "instruction": "Which of {labels}?"}, tables) == []


def _named_labels(model: Path, task: dict[str, Any], tables: dict[str, Any]) -> list[str]:
    named = {"model": {"name": str(model), "load_format": "dummy"}, "task": task, **tables}
    made = plan_cells.make(sweep(**named))
    return [line for line in made.advice if "does not name" in line]


def test_plan_for_a_gpu_is_the_same_on_a_machine_without(
    byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids, dtype and blocks of 16 are those of the GPU, not of vLLM's CPU build here."""
    asked = sweep(model={"name": str(byte_model)}, grid={"duplication": 3}, engine={"kind": "vllm"})
    monkeypatch.setattr(environment, "on_cpu", lambda: False)
    there = plan_cells.make(asked)
    monkeypatch.setattr(environment, "on_cpu", lambda: True)
    here = plan_cells.make(asked)
    assert here.cells[0].cached_tokens < there.cells[0].cached_tokens
    assert here.cells[0].cell.cell_id != there.cells[0].cell.cell_id
    assert plan_cells.make(asked, on_gpu=True).cells == there.cells
