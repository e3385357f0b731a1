"""Sweep files and overrides at the boundary: whatever they hold is read, or costs one line."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from packsweep.errors import SpecError, UserError, printable, shown
from packsweep.sweep import read

GOOD = '[model]\nname = "m"\n[grid]\nn = 4\n'


def _file(folder: Path, content: str | bytes) -> Path:
    path = folder / "s.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refused(path: Path, told: str, *overrides: str) -> None:
    with pytest.raises(SpecError) as caught:
        read.load(path, overrides)
    message = str(caught.value)
    assert told in message
    assert message.isprintable()
    assert len(message) <= 1500


def test_byte_order_mark(tmp_path: Path) -> None:
    """What an editor puts before the first table does not matter."""
    assert read.load(_file(tmp_path, "\ufeff" + GOOD)) == read.load(_file(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("override", "table", "key", "value"),
    [
        ("model.revision=12e45678", "model", "revision", "12e45678"),
        ("model.revision=0x12", "model", "revision", "0x12"),
        ("model.revision=2026-01-01", "model", "revision", "2026-01-01"),
        ("model.name=inf", "model", "name", "inf"),
        ('model.name="quoted"', "model", "name", "quoted"),
        ("engine.quantization=1e5", "engine", "quantization", ("1e5",)),
        ('engine.quantization=["fp8", "awq"]', "engine", "quantization", ("fp8", "awq")),
        ("engine.max_num_seqs=8", "engine", "max_num_seqs", (8,)),
        ("grid.answer=choice", "grid", "answer", ("choice",)),
        ('task.label_map={ "0" = "negative" }', "task", "label_map", {"0": "negative"}),
    ],
)
def test_override_value(tmp_path: Path, override: str, table: str, key: str, value: object) -> None:
    """A value of a key that holds texts is a text; all else is TOML."""
    found = read.load(_file(tmp_path, GOOD), [override])
    assert getattr(getattr(found, table), key) == value


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x = " + "[" * 50_000, "nested too deeply"),
        (GOOD + "x = " + "[" * 60 + "]" * 60, "grid.x: unknown key"),
        ("[model]\nname = " + "{a=" * 5000, "is not valid TOML"),
        (GOOD.replace("4", "9" * 5000), "is not valid TOML: Exceeds the limit"),
        (GOOD.replace("4", "0x" + "f" * 50_000), "grid.n: "),
        (GOOD.replace("4", "1_000_000_000_000_000"), "grid.n"),
        (GOOD.replace("n = 4", "n = []"), "grid.n: [] is not allowed"),
        (GOOD.replace("n = 4", 'n = ""'), "grid.n: '' is not allowed"),
        (
            GOOD + "[task]\nlabels = 5\n",
            'task.labels: 5 is not allowed: expected a list such as ["one", "two"]',
        ),
        (GOOD + "[measure]\nreplicates = 100_001\n", "grid: 200,002 cells with all axes"),
        (GOOD + f"duplication = {list(range(1, 60_001))}\n", "grid: 120,000 cells"),
        (GOOD + "duplication = 100_000_000\n", "grid.duplication: 400,000,000 texts in a pass"),
        (GOOD + "[[variant]]\n" * 1001, "variant: 1,001 variants are more than the 1,000"),
        (GOOD + "[cost]\ngpu_hour_usd = inf\n", "cost.gpu_hour_usd: inf is not allowed"),
        (GOOD + "[cost]\ngpu_hour_usd = 1e308\n", "cost.gpu_hour_usd: 1e+308 is not allowed"),
        (GOOD + "[limits]\npass_timeout_s = nan\n", "limits.pass_timeout_s"),
        (GOOD + "[texts]\nseed = 99999999999999999999\n", "texts.seed"),
        (GOOD + '[engine]\ncompilation_config = "' + "{'a':" * 3 + '"\n', "is not JSON"),
        (GOOD + "[engine]\ncompilation_config = '" + '{"a":' * 9999 + "'\n", "too deeply"),
        (GOOD + f'[model.x]\ny = "{"z" * 100_000}"\n', "model.x: unknown key"),
        (f'[model]\nname = 5\n"{"k" * 100_000}" = 1\n[grid]\nn = 1\n', "model.kkk"),
        (GOOD + '"\\u001b[31m" = 1\n', "\\x1b[31m"),
        ("\x00", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8 text (byte 0)"),
        (b"#" * (1 << 21), "is larger than 1 MiB"),
    ],
)
def test_bad_content(tmp_path: Path, content: str | bytes, told: str) -> None:
    """Whatever stands in the file is refused at once, in one line that any terminal can show."""
    path = _file(tmp_path, content)
    began = time.monotonic()
    _refused(path, told)
    assert time.monotonic() - began < 5


def test_no_regular_file(tmp_path: Path) -> None:
    """A device or a pipe is not waited for; a name that cannot be one is told."""
    os.mkfifo(tmp_path / "fifo")
    for name in (str(tmp_path / "fifo"), "/dev/zero", "/dev/null"):
        _refused(Path(name), "is not a regular file")
    _refused(Path("a\x00b.toml"), "null")
    _refused(tmp_path / ("x" * 300), "cannot be read: File name too long")
    _refused(Path(os.fsdecode(b"caf\xe9.toml")), "caf\\udce9.toml: no such sweep file")


def test_process_substitution() -> None:
    """What a shell passes as <(command) is a file."""
    out, into = os.pipe()
    os.write(into, GOOD.encode())
    os.close(into)
    try:
        assert read.load(Path(f"/dev/fd/{out}")).grid.n == (4,)
    finally:
        os.close(out)


def test_printable() -> None:
    """What a terminal would obey is escaped, and the middle of a long message left out."""
    assert printable("a\x1b[31m\nb\u202ec", one_line=True) == "a\\x1b[31m b\\u202ec"
    assert len(printable("x" * 100_000)) <= 1500
    assert str(UserError("a\nb")) == "a b"
    assert shown(10**5000) == "int too large to show"


_PIECES = (
    *'[]{}="\\\n,.#\x00\x1b\ufeff\u202e',
    *("[grid]", "[model]", "[engine]", "[[variant]]", "[task]", "[texts]", "[measure]", "n"),
    *("n = 4", 'name = "m"', "labels", "instruction", "inf", "1e308", "-1", "0", "true"),
    *("[" * 3000, "9" * 5000, "strategy", "answer", '"logprob"', "max_tokens", "replicates"),
)


def _mutated(chance: random.Random) -> bytes:
    content = list(GOOD)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(content) + 1)
        content[at : at + chance.choice((0, 0, 1, 5))] = chance.choice(_PIECES)
    return "".join(content).encode()


def _message(path: Path, overrides: list[str]) -> str | None:
    """Return what is wrong with a sweep file, or None."""
    try:
        read.load(path, overrides)
    except SpecError as error:
        return str(error)
    return None


def test_fuzz(tmp_path: Path) -> None:
    """For a bounded time: any content is a sweep or one line, and never another exception."""
    chance, ends = random.Random(0), time.monotonic() + 3
    messages = []
    while time.monotonic() < ends:
        table, key, value = chance.choices(_PIECES, k=3)
        overrides = [f"{table[:50]}.{key}={value}"] if chance.random() < 0.5 else []
        messages.append(_message(_file(tmp_path, _mutated(chance)), overrides))
    told = [message for message in messages if message is not None]
    assert len(messages) >= 10
    assert told
    assert all(message.isprintable() and len(message) <= 1500 for message in told)


def test_kept_overrides_at_the_end_alone() -> None:
    """What was set stands below the file; the file's own comments are none of it."""
    text = "# --set grid.n=1\n[model]\n# --set grid.n=2\n# --set engine.max_model_len=8\n"
    assert read.kept_overrides(text) == ["grid.n=2", "engine.max_model_len=8"]


def test_kept_applies_overrides() -> None:
    """The sweep is the one that was run."""
    content = read.with_overrides(GOOD.rstrip().encode(), ["grid.n=[2]"])
    assert read.kept(content.decode()).grid.n == (2,)


def test_kept_refuses() -> None:
    """A text that is no sweep file is refused."""
    with pytest.raises(SpecError, match=r"sweep\.toml"):
        read.kept("[model")
