"""Resolving names of models: folders, hub ids without and with a hub, refusals in one line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tests import fakes

import packsweep
from packsweep.errors import ModelError
from packsweep.models.resolve import resolve

CONFIG = {**fakes.CONFIG, "vocab_size": 32, "max_position_embeddings": 64}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a config, a tokenizer and weights."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "tokenizer.json").write_text("{}")
    (place / "model.safetensors").write_bytes(b"12345")
    return place


def _refusal(name: str, **options: str) -> str:
    """Return the error's text after checking that it is one line."""
    with pytest.raises(ModelError) as caught:
        resolve(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_resolve_folder(folder: Path) -> None:
    """A folder is its own path, config and tokenizer place, and has no revision."""
    model = resolve(str(folder))
    places = {model.path, model.config_path, model.tokenizer_path}
    assert (places, model.revision) == ({str(folder)}, None)


def test_resolve_max_model_len(folder: Path) -> None:
    """The context limit is the config's."""
    assert resolve(str(folder)).max_model_len == 64


def test_resolve_other_design(folder: Path) -> None:
    """A design that no formula of ours describes is resolved, and says what it is."""
    experts = CONFIG | {"model_type": "granitemoe", "num_local_experts": 8, "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(experts))
    model = resolve(str(folder))
    assert (model.shape, model.design) == (
        None,
        "model_type 'granitemoe' is a mixture of experts (num_local_experts)",
    )
    assert (model.vocab_size, model.max_model_len, model.torch_dtype) == (32, 64, "bfloat16")


def test_resolve_other_length(folder: Path) -> None:
    """Older designs call their context limit otherwise."""
    config = {"model_type": "gpt2", "vocab_size": 32, "n_positions": 24}
    (folder / "config.json").write_text(json.dumps(config))
    model = resolve(str(folder))
    assert (model.max_model_len, model.kv_elements_per_token) == (24, None)


def test_resolve_no_figures(folder: Path) -> None:
    """A config without the figures that every design has is refused."""
    (folder / "config.json").write_text(json.dumps({"model_type": "granitemoe"}))
    assert "vocab_size" in _refusal(str(folder))


def test_resolve_relative_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is given a path that holds in any working directory."""
    monkeypatch.chdir(folder.parent)
    assert resolve("model").path == str(folder)


def test_fingerprint_same_files_elsewhere(folder: Path, tmp_path: Path) -> None:
    """A folder that moves keeps its fingerprint."""
    before = resolve(str(folder)).fingerprint
    assert resolve(str(folder.rename(tmp_path / "moved"))).fingerprint == before


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_fingerprint_other_file(folder: Path, file: str) -> None:
    """Config, tokenizer and size of the weights are in the fingerprint."""
    before = resolve(str(folder)).fingerprint
    with (folder / file).open("a") as stream:
        stream.write(" ")
    assert resolve(str(folder)).fingerprint != before


def test_resolve_no_weights(folder: Path) -> None:
    """A folder without weights is refused, with the setting that needs none."""
    (folder / "model.safetensors").unlink()
    assert "model.load_format=dummy" in _refusal(str(folder))


def test_resolve_no_weights_dummy(folder: Path) -> None:
    """Random weights need no files."""
    (folder / "model.safetensors").unlink()
    shape = resolve(str(folder), load_format="dummy").shape
    assert shape is not None
    assert shape.hidden_size == 8


def test_resolve_file(folder: Path) -> None:
    """A file is not a model folder."""
    assert "is a file" in _refusal(str(folder / "config.json"))


def test_resolve_no_folder(tmp_path: Path) -> None:
    """A path that leads nowhere is not asked of the hub."""
    assert "no model folder" in _refusal(str(tmp_path / "nowhere"))


def test_resolve_no_config(folder: Path) -> None:
    """A folder without a config is no model folder."""
    (folder / "config.json").unlink()
    assert "holds no config.json" in _refusal(str(folder))


def test_resolve_broken_config(folder: Path) -> None:
    """A config that is no JSON is named."""
    (folder / "config.json").write_text("{")
    assert "cannot read" in _refusal(str(folder))


def test_resolve_no_tokenizer(folder: Path) -> None:
    """A folder without tokenizer.json needs model.tokenizer."""
    (folder / "tokenizer.json").unlink()
    assert "model.tokenizer=" in _refusal(str(folder))


def test_resolve_tokenizer_elsewhere(folder: Path, tmp_path: Path) -> None:
    """model.tokenizer is where the tokenizer comes from, and is in the fingerprint."""
    other = tmp_path / "words"
    other.mkdir()
    (other / "tokenizer.json").write_text("{ }")
    model = resolve(str(folder), tokenizer=str(other))
    assert model.tokenizer_path == str(other)
    assert model.fingerprint != resolve(str(folder)).fingerprint


def test_resolve_revision_of_folder(folder: Path) -> None:
    """A revision means nothing for a folder."""
    assert "applies to a hub id" in _refusal(str(folder), revision="main")


def test_resolve_unknown_embedded() -> None:
    """An unknown embedded name is answered with the nearest."""
    assert "did you mean embedded:llama-3.1-8b?" in _refusal("embedded:llama-8b")


def test_resolve_no_hub_id() -> None:
    """A name that can be nothing is refused as such."""
    assert "neither a folder nor a hub id" in _refusal("a b")


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_cache")
def test_resolve_llama_shape_without_dummy() -> None:
    """The shape of Llama 3.1 8B has no weights to load."""
    assert "model.load_format=dummy" in _refusal("embedded:llama-3.1-8b")
    model = resolve("embedded:llama-3.1-8b", load_format="dummy")
    assert model.shape is not None
    assert model.shape.num_parameters == 8_030_261_248
    assert (model.revision, model.max_model_len) == ("0.3.0", 131072)


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as fetching a small file needs."""

    files: ClassVar[dict[str, bytes]] = {
        "/org/model/resolve/main/config.json": json.dumps(CONFIG).encode(),
        f"/org/model/resolve/{COMMIT}/tokenizer.json": b"{}",
        f"/org/model/resolve/{COMMIT}/generation_config.json": b"{}",
        "/org/bare/resolve/main/config.json": json.dumps(CONFIG).encode(),
    }
    codes: ClassVar[dict[str, tuple[int, str]]] = {
        "/org/gated/": (403, "GatedRepo"),
        "/org/none/": (404, "RepoNotFound"),
        "/org/model/resolve/v9/": (404, "RevisionNotFound"),
    }

    def do_HEAD(self) -> None:
        content = self.files.get(self.path)
        if content is None:
            errors = (error for start, error in self.codes.items() if self.path.startswith(start))
            code, error = next(errors, (404, "EntryNotFound"))
            self.send_response(code)
            self.send_header("X-Error-Code", error)
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{hash(self.path) & 0xFFFF:x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path, b""))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub of our own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _ask(endpoint: str, home: Path, name: str, **options: str) -> str:
    """Resolve in a fresh process, as the hub library reads its settings once."""
    code = (
        "import sys\n"
        "from packsweep.models import resolve\n"
        "from packsweep.errors import ModelError\n"
        "try:\n"
        f"    model = resolve.resolve({name!r}, **{options!r})\n"
        "except ModelError as error:\n"
        "    print(error)\n"
        "else:\n"
        "    print(model.path, model.revision, model.tokenizer_path)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(Path(packsweep.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.removesuffix("\n")


def test_resolve_hub_id(hub: str, tmp_path: Path) -> None:
    """A hub model keeps its id as path and gets its commit."""
    said = _ask(hub, tmp_path, "org/model")
    assert said.startswith(f"org/model {COMMIT} {tmp_path}")


def test_resolve_hub_id_cached(hub: str, tmp_path: Path) -> None:
    """What was fetched once needs no network."""
    first = _ask(hub, tmp_path, "org/model")
    assert _ask("http://127.0.0.1:9", tmp_path, "org/model") == first


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        (["model.safetensors"], True),
        (["pytorch_model.bin"], True),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], True),
        (["model-00001-of-00002.safetensors"], False),
        (["model.safetensors.index.json", "a.safetensors", "b.safetensors"], True),
        (["model.safetensors.index.json", "a.safetensors"], False),
        ([], False),
    ],
)
def test_resolve_hub_id_wholly_cached(
    hub: str, tmp_path: Path, files: list[str], *, whole: bool
) -> None:
    """A model whose weights are cached as well is given to the engine as a folder."""
    *_, tokenizer_path = _ask(hub, tmp_path, "org/model").split()
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})
    for file in files:
        (Path(tokenizer_path) / file).write_text(index)
    expected = tokenizer_path if whole else "org/model"
    closed = "http://127.0.0.1:9"
    assert _ask(closed, tmp_path, "org/model").split() == [expected, COMMIT, tokenizer_path]


def test_resolve_hub_id_cached_without_weights(hub: str, tmp_path: Path) -> None:
    """Random weights need none, so the small files are the whole model."""
    path, _, folder = _ask(hub, tmp_path, "org/model", load_format="dummy").split()
    assert path == folder


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("org/gated", {}, "set HF_TOKEN"),
        ("org/none", {}, "the hub has no org/none"),
        ("org/model", {"revision": "v9"}, "no revision v9"),
        ("org/bare", {}, "org/bare holds no tokenizer.json: name another place"),
    ],
)
def test_resolve_hub_refusal(
    hub: str, tmp_path: Path, name: str, options: dict[str, str], expected: str
) -> None:
    """What the hub refuses is said in one line with the next step."""
    said = _ask(hub, tmp_path, name, **options)
    assert expected in said
    assert "\n" not in said


def test_resolve_hub_closed(tmp_path: Path) -> None:
    """Without a hub the models that need none are named, in one line."""
    said = _ask("http://127.0.0.1:9", tmp_path, "org/model")
    assert "embedded:smollm2-135m" in said
    assert "model.load_format=dummy" in said
    assert "\n" not in said


def test_resolve_hub_silent(tmp_path: Path) -> None:
    """A hub that takes the call and says nothing is given up, without the retries of a download."""
    num_calls = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = _ask(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path, "org/model")
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()
                num_calls += 1
    assert "embedded:smollm2-135m" in said
    assert num_calls <= 2
