"""Sources of other shapes than the IMDB file: what is read, what is guessed, what is refused."""

from __future__ import annotations

import bz2
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packsweep.errors import TextsError
from packsweep.sweep.task import BUILTIN
from packsweep.sweep.texts import LabelledText, Reading, builtin, hub, load

TEAMS = Reading(labels=("billing", "bug"))
ROWS = (("I paid twice", "billing"), ("It crashes, always", "bug"))
TEXTS = tuple(LabelledText(text=text, label=label) for text, label in ROWS)


def _write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _read(
    source: str, reading: Reading = TEAMS, limit: int = 2
) -> tuple[tuple[LabelledText, ...], list[str]]:
    notes: list[str] = []
    return load(source, limit=limit, reading=reading, notes=notes), notes


def _refused(source: str, message: str, reading: Reading = TEAMS) -> None:
    with pytest.raises(TextsError) as caught:
        load(source, limit=1, reading=reading)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _zip(path: Path, **members: str) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return str(path)


CSV = 'body,team\nI paid twice,billing\n"It crashes, always",bug\n'
JSONL = _jsonl([{"id": i, "body": text, "team": label} for i, (text, label) in enumerate(ROWS)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.csv", "\ufeff" + CSV),
        ("a.tsv", "body\tteam\nI paid twice\tbilling\nIt crashes, always\tbug\n"),
        ("a.csv", "team;body\nbilling;I paid twice\nbug;It crashes, always\n"),
        ("a.jsonl", JSONL),
        ("a.ndjson", JSONL.replace("\n", "\n\n")),
        ("a.jsonl.bz2", bz2.compress(JSONL.encode())),
    ],
)
def test_source_kinds(tmp_path: Path, name: str, content: str | bytes) -> None:
    """Every kind of table gives the same texts, and says once which columns were taken."""
    source = _write(tmp_path / name, content)
    for _ in range(2):  # from the file, and from the copy
        texts, notes = _read(source)
        assert texts == TEXTS
        assert notes == [f"{source}: texts are read from 'body', labels from 'team'"]


def test_source_zip(tmp_path: Path) -> None:
    """An archive with one file of texts is that file."""
    assert _read(_zip(tmp_path / "a.zip", a_csv=CSV, readme_md="x"))[0] == TEXTS
    _refused(_zip(tmp_path / "b.zip", a_csv=CSV, b_csv=CSV), "expected one file of texts")
    _refused(_write(tmp_path / "c.zip", b"PK\x03\x04 torn"), "is not a whole zip file")


def test_source_shards(tmp_path: Path) -> None:
    """A folder or a pattern is its files in the order of their names."""
    for index, (text, label) in enumerate(ROWS):
        table = pa.table({"body": [text], "team": [label]})
        pq.write_table(table, tmp_path / f"part-{index}.parquet")
    assert _read(str(tmp_path))[0] == TEXTS
    assert _read(str(tmp_path / "part-*.parquet"))[0] == TEXTS
    _write(tmp_path / "a.csv", CSV)
    _refused(str(tmp_path), "files of several kinds")
    _refused(str(tmp_path / "x-*.csv"), "no file of texts there")


def test_source_lines_without_labels(tmp_path: Path) -> None:
    """Lines of text have no labels, and blank ones are none."""
    texts, _ = _read(_write(tmp_path / "a.txt", "one\n\ntwo\r\n"))
    assert texts == (LabelledText(text="one", label=None), LabelledText(text="two", label=None))


def test_source_column_without_labels(tmp_path: Path) -> None:
    """A file without a column of labels is read all the same, which is said."""
    texts, notes = _read(_write(tmp_path / "a.csv", "body,when\nHello,now\n"), limit=1)
    assert texts == (LabelledText(text="Hello", label=None),)
    hint = "if 'when' holds them, name it with task.label_column"
    assert notes == [f"{tmp_path}/a.csv: texts are read from 'body', no labels ({hint})"]


def test_source_named_columns(tmp_path: Path) -> None:
    """Named columns are taken, whatever others there are."""
    source = _write(tmp_path / "a.csv", "text,body,label,team\nx,I paid twice,?,billing\n")
    reading = Reading(labels=TEAMS.labels, text_column="body", label_column="team")
    notes = [f"{source}: no text is labelled 'bug'"]
    assert _read(source, reading, limit=1) == (TEXTS[:1], notes)
    near = Reading(labels=TEAMS.labels, text_column="bodi", label_column="team")
    _refused(source, "no column 'bodi' (task.text_column); did you mean 'body'?", near)
    _refused(source, "'text' and 'body' could be the text", Reading(label_column="team"))


def test_source_label_map(tmp_path: Path) -> None:
    """Other spellings are mapped, also of numbers; what nobody knows is named with its row."""
    source = _write(tmp_path / "a.jsonl", _jsonl([{"text": "x", "label": 0}]))
    reading = Reading(labels=TEAMS.labels, label_map={"0": "billing"})
    assert _read(source, reading, limit=1)[0][0].label == "billing"
    _refused(source, "row 1 (line 1): the label is 0; expected billing or bug")


def test_source_label_spellings(tmp_path: Path) -> None:
    """Another case and a clear beginning are one reading, which is said."""
    source = _write(tmp_path / "a.csv", "text,label\nx,BUG\ny,bill\n")
    texts, notes = _read(source)
    assert [text.label for text in texts] == ["bug", "billing"]
    assert notes == [f"{source}: labels are read: 'BUG' as bug, 'bill' as billing"]


def test_source_hub_class_names(tmp_path: Path) -> None:
    """Whole numbers of the hub's own files are named in them."""
    about = {"info": {"features": {"label": {"names": ["bug", "billing"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["x", "y"], "label": [1, 0]})
    path = tmp_path / "a.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), path)
    assert [text.label for text in _read(str(path))[0]] == ["billing", "bug"]


def test_source_long_field(tmp_path: Path) -> None:
    """A field longer than the csv module's own limit is a text like any other."""
    source = _write(tmp_path / "a.csv", f"text,label\n{'word ' * 60_000},bug\n")
    assert len(_read(source, limit=1)[0][0].text) == 300_000


@pytest.mark.parametrize(
    "source",
    ["http://example.org/a.csv", "ftp://host/a.csv", "S3://bucket/a.csv", "gs://b/x.parquet"],
)
def test_source_address(source: str) -> None:
    """An address is no path, and is shown as it was written."""
    _refused(source, f"{source}: texts are not read from {source.partition('://')[0]}://")


@pytest.mark.parametrize("name", ["fifo.csv", "/dev/zero", "/dev/null"])
def test_source_no_file(tmp_path: Path, name: str) -> None:
    """A pipe and a device are no files, and are not waited for."""
    if name == "fifo.csv":
        os.mkfifo(tmp_path / name)
    _refused(str(tmp_path / name), "is neither a file nor a folder")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "[" * 100_000, "row 1 (line 1): is nested too deeply"),
        ("a.jsonl", "[1]\n", "row 1 (line 1): is [1]; expected a JSON object"),
        ("a.jsonl", '{"text": "x", "label": ' + "9" * 5000 + "}\n", "is not JSON"),
        ("a.jsonl", '{"text": "\\ud800", "label": "bug"}\n', "the text holds half of a character"),
        ("a.csv", f"{'x' * 100_000},y\n1,2\n", "no column is the text"),
        ("a.csv", "text,label\nx,\x1b[31mred\n", "'\\x1b[31mred'"),
        ("a.csv", "", "is empty"),
        ("a.txt", "\n\n", "holds no texts"),
    ],
)
def test_source_that_is_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    """Whatever a file holds, the message is short, on one line, and safe to print."""
    source = _write(tmp_path / name, content)
    _refused(source, message)
    with pytest.raises(TextsError) as caught:
        load(source, limit=1, reading=TEAMS)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_source_long_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that fills memory is refused before it does."""
    monkeypatch.setattr("packsweep.sweep.texts.rows.MAX_LINE_BYTES", 1 << 10)
    _refused(_write(tmp_path / "a.txt", "x" * 2000), "line 1: is longer than")


def test_builtin_other_labels() -> None:
    """There are no generated texts for a task of one's own."""
    _refused("builtin", "name the file of your own")
    _refused("imdb", "is labelled positive and negative")


def test_hub_id() -> None:
    """An id of the hub, with its revision, is distinguished from a path."""
    assert hub.dataset_id("stanfordnlp/imdb") == ("stanfordnlp/imdb", None)
    assert hub.dataset_id("hf://datasets/a/b@v2") == ("a/b", "v2")
    assert hub.dataset_id("some/deeper/path.csv") is None


def test_hub_splits() -> None:
    """The only split is taken; of several one has to be named."""
    files = ["data/train-00000-of-2.parquet", "data/train-00001-of-2.parquet"]
    assert hub.of_split("a/b", files, None) == files
    both = [*files, "plain_text/test/0000.parquet"]
    assert hub.of_split("a/b", both, "test") == both[2:]
    for split, message in ((None, "several splits"), ("dev", "no split 'dev'")):
        with pytest.raises(TextsError, match=message):
            hub.of_split("a/b", both, split)


def test_hub_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network and a copy there is one line."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.chdir(tmp_path)
    _refused(
        "some/data-set", "neither a file here nor a data set that the hub gives (OSError: no route"
    )


def test_hub_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network, files that are in the hub's cache are read."""
    pq.write_table(pa.table({"text": ["x"], "label": ["bug"]}), tmp_path / "train.parquet")

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    assert _read("some/data-set", limit=1)[0] == (LabelledText(text="x", label="bug"),)


def test_every_builtin_task_has_texts() -> None:
    """By its name, and by its labels, which no other has."""
    labels = {name: labels for name, (labels, _) in builtin.GENERATED.items()}
    assert labels == {task.name: task.labels for task in BUILTIN.values()}
    assert len(set(labels.values())) == len(labels)


def test_tickets() -> None:
    """The generated tickets are balanced, alike in every call, and begin each in its own way."""
    reading = Reading(labels=("payment", "bug", "delivery", "account"))
    texts = load("builtin", limit=400, reading=reading)
    assert load("builtin", limit=4, reading=reading) == texts[:4]
    assert len({text.text[:13] for text in texts}) == 400
    counts = [sum(text.label == label for text in texts) for label in reading.labels]
    assert counts == [100] * 4
    assert "{" not in "".join(text.text for text in texts)
    with pytest.raises(TextsError, match="20,000 tickets"):
        load("builtin", limit=20_001, reading=reading)
