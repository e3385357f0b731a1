from __future__ import annotations

import csv
import gzip
import io
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packsweep.errors import TextsError
from packsweep.sweep.texts import LABELS, LabelledText, load
from packsweep.sweep.texts.text import is_blank

GOOD = 'review,sentiment\nA fine day out.,positive\n"Long, and dull.",negative\n'
TWO = (
    LabelledText(text="A fine day out.", label="positive"),
    LabelledText(text="Long, and dull.", label="negative"),
)
TEXTS = st.text(min_size=1, max_size=30).filter(lambda text: not is_blank(text))


def _csv(folder: Path, content: str | bytes, name: str = "some.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _parquet(folder: Path, **columns: object) -> str:
    path = folder / "some.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


def _refused(source: str, *expected: str) -> None:
    with pytest.raises(TextsError) as caught:
        load(source, limit=1)
    message = str(caught.value)
    assert "\n" not in message
    for part in (source, *expected):
        assert part in message


def test_csv_gives_its_rows_in_order(tmp_path: Path) -> None:
    """Texts and labels come as they stand."""
    assert load(_csv(tmp_path, GOOD), limit=2) == TWO


def test_csv_with_a_limit_gives_the_first_rows(tmp_path: Path) -> None:
    """The limit cuts the file's order."""
    assert load(_csv(tmp_path, GOOD), limit=1) == TWO[:1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)),
        ("a.CSV.XZ", lzma.compress(GOOD.encode())),
    ],
)
def test_csv_when_packed_is_unpacked(tmp_path: Path, name: str, content: bytes) -> None:
    """The suffix says how a file is packed, in either case."""
    assert load(_csv(tmp_path, content, name), limit=2) == TWO


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD + "\n\n",
        GOOD.removesuffix("\n"),
        'sentiment,id,review\npositive,1,A fine day out.\nnegative,2,"Long, and dull."\n',
        GOOD.replace("\n", "\n\n"),
        'Text;label\nA fine day out.;pos\n"Long, and dull.";NEGATIVE\n',
        "body\tclass\nA fine day out.\tPos\nLong, and dull.\tneg\n",
        'words,label\nA fine day out.,positive\n"Long, and dull.",negative\n',
    ],
    ids=["mark", "CRLF", "empty lines at the end", "no last newline", "more columns", *"abcd"],
)
def test_csv_in_another_dress_reads_the_same(tmp_path: Path, content: str) -> None:
    """What spreadsheets and editors do to a file does not matter."""
    assert load(_csv(tmp_path, content), limit=2) == TWO


def test_csv_with_a_review_twice_keeps_both(tmp_path: Path) -> None:
    """Duplicates are allowed."""
    source = _csv(tmp_path, "review,sentiment\nSo so.,positive\nSo so.,positive\n")
    assert len(load(source, limit=2)) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(rows=st.lists(st.tuples(TEXTS, st.sampled_from(LABELS)), min_size=1))
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    """Whatever Python's csv module writes, quotes, commas and line breaks included, comes back."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("review", "sentiment"), *rows])
    reviews = load(_csv(tmp_path, text.getvalue()), limit=len(rows))
    assert [(review.text, review.label) for review in reviews] == rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("review,sentiment\n", "holds no texts"),
        ("a,b,sentiment\nGood.,x,positive\n", "no column is the text; found 'a', 'b', 'sentiment'"),
        ("text,review\nGood.,x\n", "'text' and 'review' could be the text"),
        ("text,label,team\nGood.,x,x\n", "'label' and 'team' could be the label"),
        ("review,review,sentiment\n", "more than once"),
        (GOOD + "Hm.,neutral\n", "row 3 (line 4): the sentiment is 'neutral'; expected positive"),
        (GOOD + "Hm.,\n", "row 3 (line 4): the sentiment is empty"),
        (GOOD + ",positive\n", "row 3 (line 4): the text is empty"),
        (GOOD + '" ",positive\n', "row 3 (line 4): the text is blank"),
        (GOOD + "\nHm.,x\n", "row 3 (line 5): the sentiment is 'x'"),
        (GOOD + "a,b,positive\n", "row 3 (line 4): 3 fields where the header has 2"),
        ('review,sentiment\n"a\nb",positive\nc,x\n', "row 2 (line 4): the sentiment is 'x'"),
        (GOOD + '"open,positive\n', "row 3, up to line 4, is not valid CSV"),
        (GOOD + '"a" b,positive\n', "a quote left open"),
        (GOOD.encode() + b"caf\xe9,positive\n", "line 4: is not UTF-8 text (byte 72 of"),
        (GOOD.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
    ],
)
def test_csv_that_is_wrong_costs_one_line(
    tmp_path: Path, content: str | bytes, expected: str
) -> None:
    """The message names the file, the place, what is there and what should be."""
    _refused(_csv(tmp_path, content), expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", GOOD.encode()),
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-12]),
        ("a.csv.xz", GOOD.encode()),
        ("a.csv.xz", lzma.compress(GOOD.encode())[:-20]),
        ("a.parquet", GOOD.encode()),
        ("a.parquet", b""),
    ],
)
def test_packed_file_that_is_broken_costs_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """A file of another kind than its name says, or half of a file, is no traceback."""
    _refused(_csv(tmp_path, content, name))


def test_source_with_fewer_rows_than_needed_is_refused(tmp_path: Path) -> None:
    """The message has both numbers, from the file and again from its copy."""
    source = _csv(tmp_path, GOOD)
    for _ in range(2):
        with pytest.raises(TextsError, match="holds 2 texts, but 3 are needed"):
            load(source, limit=3)


def test_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A slip in the path is reported with the words that could have been meant."""
    _refused(str(tmp_path / "imbd.csv"), "no such file", "builtin, imdb or a path")


def test_source_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """The message lists the kinds that are known."""
    _refused(_csv(tmp_path, GOOD, "some.doc"), ".csv", ".xz", ".parquet", ".tar.gz")


def test_source_relative_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is not taken from the sweep file's folder."""
    _csv(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert load("some.csv", limit=2) == TWO


def test_parquet_gives_its_rows_in_order(tmp_path: Path) -> None:
    """Other columns and their order do not matter."""
    source = _parquet(
        tmp_path,
        id=[1, 2],
        sentiment=[review.label for review in TWO],
        review=[review.text for review in TWO],
    )
    assert load(source, limit=2) == TWO


def test_parquet_with_dictionary_columns_reads_the_same(tmp_path: Path) -> None:
    """A categorical column of pandas is text too."""
    labels = pa.array([review.label for review in TWO]).dictionary_encode()
    source = _parquet(tmp_path, review=[review.text for review in TWO], sentiment=labels)
    assert load(source, limit=2) == TWO


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["a"], "label": [1]}, "row 1: the label is 1; expected positive or negative"),
        ({"review": ["a", "b"], "sentiment": ["positive", None]}, "row 2: the sentiment is empty"),
        ({"review": ["a", None], "sentiment": ["positive"] * 2}, "row 2: the text is empty"),
        ({"review": ["a"], "sentiment": [1]}, "row 1: the sentiment is 1; expected positive or"),
        ({"review": [7], "sentiment": ["positive"]}, "row 1: the text is 7; expected a text"),
        ({"review": [], "sentiment": []}, "holds no texts"),
    ],
)
def test_parquet_that_is_wrong_costs_one_line(
    tmp_path: Path, columns: dict[str, list[object]], expected: str
) -> None:
    """The message names the file, the row, what is there and what should be."""
    _refused(_parquet(tmp_path, **columns), expected)


def test_parquet_with_broken_text_names_the_row(tmp_path: Path) -> None:
    """Arrow stores bytes as text unchecked; the first wrong one is found."""
    broken = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    source = _parquet(tmp_path, review=broken, sentiment=["positive", "negative"])
    _refused(source, "row 2: the review is not UTF-8 text (byte 3 of it)")
