"""Files as people have them: what spreadsheets, pandas and Spark write is read, or told apart."""

from __future__ import annotations

import gzip
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packsweep.errors import TextsError
from packsweep.sweep.texts import LabelledText, Reading, load

LABELS = ("billing", "bug")
READING = Reading(labels=LABELS)
ROWS = [("I paid twice", "billing"), ("It crashes, always", "bug")]
CSV = 'text,label\nI paid twice,billing\n"It crashes, always",bug\n'
SEMICOLONS = "text;label\nI paid twice;billing\nIt crashes, always;bug\n"


def _rows(source: Path, reading: Reading = READING) -> list[tuple[str, str | None]]:
    return [(text.text, text.label) for text in load(str(source), limit=2, reading=reading)]


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refused(source: Path, told: str, reading: Reading = READING) -> None:
    with pytest.raises(TextsError) as caught:
        load(str(source), limit=1, reading=reading)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "sep=;\n" + SEMICOLONS),
        ("a.csv", '"text";"label";"x, y"\n"I paid twice";billing;\n"It crashes, always";bug;\n'),
        ("a.tsv", CSV),
        ("a.csv", "\n \n" + CSV + ",\n  \n,\n"),
        ("a.csv", CSV.replace(",b", ", b").replace("text,", " text ,")),
        ("a b é.csv", CSV),
        ("a.csv.zst", pa.compress(CSV.encode(), codec="zstd", asbytes=True)),
    ],
)
def test_spreadsheets(tmp_path: Path, name: str, content: str | bytes) -> None:
    """Delimiters, Excel's own first line, rows without anything in them, spaces around."""
    assert _rows(_write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", CSV.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("a.csv", CSV.encode("utf-16-le"), "is UTF-16 text; save it as UTF-8"),
        (
            "a.csv",
            gzip.compress(CSV.encode(), mtime=0),
            "is compressed; its name should end in .gz",
        ),
        ("a.csv", b"PK\x03\x04", "a spreadsheet; save it as CSV"),
        ("a.csv", CSV.replace("\n", "\r"), "line ends"),
        (
            "a.csv",
            CSV.replace("paid", "zahlte \u20ac").encode("cp1252"),
            "by iconv -f WINDOWS-1252",
        ),
        ("a.csv", "I paid twice,billing\n", "text_column, or put a header above the rows"),
        ("a.csv", "\ufeff", "is empty"),
        ("a.csv", "text;label|x\na;bug|1\n", "is one column; texts.delimiter says"),
        ("a.csv", "text,label\n\u200b\u200d,bug\n", "row 1 (line 2): the text is blank"),
        ("a.csv", "text,label\na,\n", 'read no labels: task.label_column = ""'),
        ("a.jsonl", "", "a.jsonl: holds no texts"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', "'text' is there more than once"),
        ("a.jsonl", '[\n{"text": "a"}]\n', "expected one object on each line"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": "b", "label": "bug"}\n',
            "row 2 (line 2): has 'label'",
        ),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', "the label is empty"),
        ("a.jsonl", '{"text": "a", "label": ["bug"]}\n', "is ['bug']; expected billing or bug"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: str | bytes, told: str) -> None:
    """What cannot be read as meant is named, with what to do; nothing is read otherwise."""
    _refused(_write(tmp_path / name, content), told)


def test_other_labels_are_not_the_experiments(tmp_path: Path) -> None:
    """Whoever left [task] out learns where labels are named."""
    source = _write(tmp_path / "a.csv", CSV)
    _refused(source, "expected positive or negative; [task] names other labels", Reading())


@pytest.mark.parametrize(
    ("written", "labels", "label_map"),
    [
        (True, ("true", "false"), {}),
        (True, ("yes", "no"), {"true": "yes", "false": "no"}),
        (True, ("yes", "no"), {"True": "yes"}),
        (1, ("1", "2"), {}),
        (1.0, ("1", "2"), {}),
        (1.0, ("yes", "no"), {"1": "yes"}),
        ("1.0", ("yes", "no"), {"1": "yes"}),
        (" 1", ("yes", "no"), {"1": "yes"}),
        ("BUG REPORT", ("yes", "no"), {"Bug report": "yes"}),
        ("e\u0301tat", ("\u00e9tat", "autre"), {}),
        ("bug  report", ("bug report", "bug"), {}),
        ("not spam", ("not spam", "spam"), {}),
    ],
)
def test_label_spellings(
    tmp_path: Path, written: object, labels: tuple[str, ...], label_map: dict[str, str]
) -> None:
    """Booleans, numbers that pandas made floats, composed letters, case and spaces: one reading."""
    row = json.dumps({"text": "a", "label": written})
    source = _write(tmp_path / "a.jsonl", f"{row}\n{row}\n")
    reading = Reading(labels=labels, label_map=label_map)
    assert _rows(source, reading) == [("a", labels[0])] * 2


def test_all_strange_labels_are_named_at_once(tmp_path: Path) -> None:
    """A label_map for all of them can be copied; the first row with one is named."""
    strange = ["it's late", '5" pipe', "\U0001f468\u200d\U0001f469", "c", "d", "e", "f"]
    path = tmp_path / "a.csv"
    rows = ["text,bug\n", *(f'text,"{word.replace(chr(34), chr(34) * 2)}"\n' for word in strange)]
    path.write_text("text,label\n" + "".join([*rows, *rows]), encoding="utf-8")
    with pytest.raises(TextsError) as caught:
        load(str(path), limit=1, reading=READING)
    message = str(caught.value)
    assert message.startswith(
        f'{path}: row 2 (line 3): the label is "it\'s late"; expected billing'
    )
    assert message.endswith(" and 2 more")
    copied = message[message.index("{") : message.index("}") + 1]
    keys = tomllib.loads(f"label_map = {copied}")["label_map"]
    assert list(keys) == strange[:5]


def test_labels_of_both_sides(tmp_path: Path) -> None:
    """A label that no text has is said, as it may be a slip."""
    notes: list[str] = []
    reading = Reading(labels=(*LABELS, "bilingual"))
    load(str(_write(tmp_path / "a.csv", CSV)), limit=1, reading=reading, notes=notes)
    assert notes == [f"{tmp_path}/a.csv: no text is labelled 'bilingual'"]


def test_no_labels_on_request(tmp_path: Path) -> None:
    """A column that only looks like labels can be left alone."""
    source = _write(tmp_path / "a.csv", CSV.replace("bug", "shoes"))
    reading = Reading(labels=LABELS, label_column="")
    assert load(str(source), limit=1, reading=reading) == (
        LabelledText(text="I paid twice", label=None),
    )


def test_one_column_without_header_is_said(tmp_path: Path) -> None:
    """The first text of such a file is taken for a header."""
    notes: list[str] = []
    source = _write(tmp_path / "a.csv", "It crashes\nI paid twice\n")
    load(str(source), limit=1, reading=READING, notes=notes)
    assert notes == [f"{source}: texts are read from 'It crashes', no labels"]


def test_shards(tmp_path: Path) -> None:
    """Columns in another order, empty parts, hidden files, folders below."""
    first, second = CSV.splitlines(keepends=True)[1:]
    _write(tmp_path / "a.csv", "text,label\n" + first)
    _write(tmp_path / "b.csv", "label,text\nBug,It crashes\n")
    _write(tmp_path / "c.csv", "text,label\n")
    _write(tmp_path / "._a.csv", b"\x00\x05")
    notes: list[str] = []
    texts = load(str(tmp_path), limit=2, reading=READING, notes=notes)
    assert [text.label for text in texts] == ["billing", "bug"]
    assert notes == [f"{tmp_path}/a.csv: labels are read: 'Bug' as bug"]
    _write(tmp_path / "below" / "deeper" / "d.csv", "text,label\n" + second)
    assert _rows(tmp_path / "**" / "*.csv") == [ROWS[0], ("It crashes", "bug")]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("body,label\nIt crashes,bug\n", "there is no one column 'text', which"),
        ("text\nIt crashes\n", "there is no one column 'label', which"),
    ],
)
def test_shards_unlike_the_first(tmp_path: Path, second: str, told: str) -> None:
    """A part with other columns would otherwise be read otherwise, or lose its labels."""
    _write(tmp_path / "a.csv", CSV)
    _write(tmp_path / "b.csv", second)
    _refused(tmp_path, f"b.csv: {told}")


def test_shards_labelled_later(tmp_path: Path) -> None:
    """The labels of later parts are not dropped because the first has none."""
    _write(tmp_path / "a.csv", "text\nIt crashes\n")
    _write(tmp_path / "b.csv", CSV)
    _refused(tmp_path, "b.csv: has 'label', which")


def test_empty_parquet_part(tmp_path: Path) -> None:
    """Spark writes parts without rows."""
    table = pa.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    pq.write_table(table.slice(0, 0), tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "b.parquet")
    assert _rows(tmp_path) == ROWS


@pytest.mark.parametrize("inside", [(), ("below",)])
def test_folder_without_texts(tmp_path: Path, inside: tuple[str, ...]) -> None:
    """An empty folder is no IMDB set; folders below are named by a pattern."""
    for name in inside:
        _write(tmp_path / name / "a.csv", CSV)
    _refused(tmp_path, "no file of texts there")
    _refused(tmp_path, "FOLDER/**/*.csv looks in folders below")


def test_a_split_of_a_file_is_refused(tmp_path: Path) -> None:
    """Only a data set of the hub has splits; elsewhere the setting would do nothing."""
    (tmp_path / "a.csv").write_text(CSV, encoding="utf-8")
    for source in (str(tmp_path / "a.csv"), str(tmp_path), "builtin"):
        with pytest.raises(TextsError, match="names a split of a data set of the hub"):
            load(source, limit=1, reading=Reading(split="train"))


JSON_ROWS = [{"text": text, "label": label} for text, label in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(JSON_ROWS),
        json.dumps(JSON_ROWS, indent=2),
        "".join(f"{json.dumps(row)}\n" for row in JSON_ROWS),
    ],
)
def test_json(tmp_path: Path, content: str) -> None:
    """One array, as notebooks and labelling tools write it, or lines by another name."""
    assert _rows(_write(tmp_path / "a.json", content)) == ROWS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"text": "a"},', "is not JSON: Expecting value; expected an array of objects"),
        ('["a", "b"]', "row 1: is 'a'; expected a JSON object"),
        ('{"text": "a", "label": "bug"', "row 1 (line 1): is not JSON"),
        ("[]", "holds no texts"),
    ],
)
def test_wrong_json(tmp_path: Path, content: str, told: str) -> None:
    _refused(_write(tmp_path / "a.json", content), told)


def test_nested_json(tmp_path: Path) -> None:
    """A field within an object is a column, which is named by its path."""
    lines = [json.dumps({"doc": {"body": text}, "meta": {"team": of}}) for text, of in ROWS]
    path = _write(tmp_path / "a.jsonl", "\n".join(lines))
    _refused(path, "no column is the text; found 'doc.body', 'meta.team'; name it with task.text_")
    _refused(
        path, "no column 'doc' (task.text_column); found 'doc.body'", Reading(text_column="doc")
    )
    named = replace(READING, text_column="doc.body", label_column="meta.team")
    assert [(each.text, each.label) for each in load(str(path), limit=2, reading=named)] == ROWS


def test_json_beside_texts_is_about_them(tmp_path: Path) -> None:
    _write(tmp_path / "about.json", '{"name": "tickets"}')
    _write(tmp_path / "a.csv", CSV)
    assert _rows(tmp_path) == ROWS
