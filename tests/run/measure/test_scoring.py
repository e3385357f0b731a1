"""Labels in answers: which are found, and which are right."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.run.measure import scoring
from packsweep.run.measure.scoring import Reader
from packsweep.sweep import answers
from packsweep.sweep.answers import Branch
from packsweep.sweep.spec import Format

P, N = "positive", "negative"
LABELS = st.sampled_from([P, N])
TEAMS = ("billing", "bug", "bug report", "Other")
TEAM_READER = Reader(words={team: team for team in TEAMS})
LETTERS = Reader(words={"A": P, "B": N}, exact_case=True)


def _one(text: str, *, cut: bool = False) -> str | None:
    return scoring.SENTIMENTS.read(text, 1, cut=cut)[0][0]


def _many(text: str, num_texts: int, *, cut: bool = False) -> list[str | None]:
    return scoring.SENTIMENTS.read(text, num_texts, cut=cut)[0]


WORDS = st.lists(
    st.one_of(
        st.sampled_from([*TEAMS, "positive", "bugs", "bil", "othe", "1.", ",", "\n", "[", '"']),
        st.sampled_from(["\U0001f44d", "\U0001f44d_good", "\u200d", "\ufe0f", "\u0301", "_", " "]),
        st.text(max_size=3),
    ),
    max_size=8,
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("positive", P),
        ("Negative.", N),
        ("postive", P),
        ("nonpositive positively", None),
        ("", None),
        ("The comments are good", None),
        ("I would not call this positive. Negative.", N),
        ("It is positive, not negative.", P),
        ("It isn't negative at all: positive", P),
        ("Positive or negative? Positive.", P),
        ("positive/negative", None),
        ("positive and negative", None),
        ("Positive. On reflection, negative.", N),
        ("**Positive**", P),
    ],
)
def test_read_one(text: str, found: str | None) -> None:
    """An answer to one text is its last label; one that contradicts itself holds none."""
    assert _one(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pos", P),
        ("Neg", N),
        ("post", P),
        ("po", None),
        ("the", None),
        ("positive", P),
        ("postive", P),
        ("pos.", None),
        ("xpos", None),
    ],
)
def test_read_one_cut(text: str, found: str | None) -> None:
    """An answer cut inside a label counts from three letters on."""
    assert _one(text, cut=True) == found


def test_read_one_not_cut() -> None:
    """An answer that ended by itself has no cut label."""
    assert _one("pos") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("positive\nnegative\npositive", [P, N, P]),
        ("Here is each comment as positive or negative:\npositive\nnegative\npositive", [P, N, P]),
        ("Answer only postive or negative:\n\npositive\nnegative\npositive", [P, N, P]),
        ("The positive ones first:\nnegative\nnegative\npositive", [N, N, P]),
        ("1. negative, 2. positive, 3. positive.", [N, P, P]),
        ("1. positive\n3. negative", [P, None, N]),
        ("positive\nneutral\nnegative", [P, None, N]),
        ("Comment 1: Positive\nComment 2 is negative\n- positive", [P, N, P]),
        ("Labels:\npositive\nunclear\nnegative", [P, None, N]),
        ("positive\nnegative", [P, N, None]),
        ("positive\nnegative\nnegative\npositive", [P, N, N]),
        ("not positive but negative\npositive\nnegative", [N, P, N]),
    ],
)
def test_read_lines(text: str, found: list[str | None]) -> None:
    """Lines are read as asked: a preamble and the echoed question are no answers."""
    assert _many(text, 3) == found


def test_read_lines_cut() -> None:
    """The last line may be cut inside its label."""
    assert _many("positive\nnegati", 2, cut=True) == [P, N]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. positive\n2. negative", [P, N, None]),
        ("Sure:\n2) negative\n3) positive", [None, N, P]),
        ("1: positive\n1: negative\n7: negative", [P, None, None]),
        ("positive\nnegative\npositive", [P, N, P]),
    ],
)
def test_read_numbered(text: str, found: list[str | None]) -> None:
    """A numbered answer that misses a line does not shift those that follow."""
    read = Reader(words={P: P, N: N}, answer_format="numbered").read
    assert read(text, 3)[0] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"1": "positive", "3": "Negative"}', [P, None, N]),
        ('```json\n{"2": "negative"}\n```', [None, N, None]),
        ('["positive", "negative"]', [P, N, None]),
        ('{"1": "positive", "2": "nega', [P, N, None]),
        ("positive\nnegative\npositive", [P, N, P]),
    ],
)
def test_read_json(text: str, found: list[str | None]) -> None:
    """A JSON answer is read by its keys, whole or cut."""
    read = Reader(words={P: P, N: N}, answer_format="json").read
    assert read(text, 3, cut=True)[0] == found


@pytest.mark.parametrize(
    ("text", "cut", "found"),
    [
        ("bug report", False, "bug report"),
        ("BUG", False, "bug"),
        ("other", False, "Other"),
        ("a debug session", False, None),
        ("bug rep", True, "bug report"),
        ("bug", True, "bug"),
        ("billing, bug or Other", False, None),
    ],
)
def test_read_labels_within_labels(text: str, cut: bool, found: str | None) -> None:  # noqa: FBT001
    """The longest label counts, in any case."""
    assert TEAM_READER.read(text, 1, cut=cut)[0] == [found]


@pytest.mark.parametrize(
    ("text", "found"),
    [("A", P), ("(B)", N), ("The answer is B.", N), ("a good film", None), ("b", None)],
)
def test_read_letters(text: str, found: str | None) -> None:
    """A letter that stands for a label is a capital letter by itself."""
    assert LETTERS.read(text, 1)[0] == [found]


def test_read_other_alphabet() -> None:
    """Labels of other alphabets are found in any case."""
    assert Reader(words={"négatif": N, "позитив": P}).read("NÉGATIF", 1)[0] == [N]


@pytest.mark.parametrize(
    ("labels", "text", "found"),
    [
        ("正面 负面", "答案是正面。", "正面"),
        ("正面 负面", "这不是正面\uff0c是负面。", "负面"),
        ("正面 负面", "有负面的话。总体正面的", "正面"),
        ("正面 负面", "正面和负面都有", None),
        ("好评 非常好评", "我觉得非常好评", "非常好评"),
        ("肯定 否定", "肯定A", "肯定"),
        ("บวก ลบ", "คำตอบคือบวก", "บวก"),
        ("긍정 부정", "이 글은 긍정입니다.", "긍정"),
        ("否定的 肯定的", "この文は肯定的です", "肯定的"),
        ("positive 负面", "答案是positive。", "positive"),
        ("positive negative", "答案是positive。", "positive"),
        ("gut schlecht", "ungut", None),
    ],
)
def test_read_scripts_without_spaces(labels: str, text: str, found: str | None) -> None:
    """A label is found within a sentence of Chinese, Thai, Korean or Japanese; ungut is not gut."""
    reading = scoring.Reader(words={label: label for label in labels.split()})
    assert reading.read(text, 1)[0] == [found]


@pytest.mark.parametrize("text", ["po\u017fitive", "pos\u0131tive", "\u212aneg pos\u0130tive"])
@pytest.mark.parametrize("cut", [False, True])
def test_read_like_letters(text: str, cut: bool) -> None:  # noqa: FBT001
    """Letters that only look like a label's are no label, and no error."""
    assert _one(text, cut=cut) is None


@given(WORDS, st.booleans(), st.sampled_from(["lines", "numbered", "json"]), st.integers(1, 5))
def test_read_any_text(text: str, cut: bool, answer_format: Format, num_texts: int) -> None:  # noqa: FBT001
    """Whatever a model says is read without an error, into as many places as there are texts."""
    words = (*TEAMS, "\U0001f44d good", "\U0001f44d")
    read_by = Reader(words={word: word for word in words}, answer_format=answer_format)
    labels, surplus = read_by.read(text, num_texts, cut=cut)
    assert len(labels) == num_texts
    assert surplus >= 0
    assert set(labels) <= {*words, None}


# Labels that people have: numbers, parts of each other, marks, words that answers use otherwise.
_REAL = (
    *("yes", "no", "none", "neither", "not spam", "spam", "bug", "bug report", "bug (new)", "bug:"),
    *("0", "1", "2", "10", "-1", "1.5", "5 stars", "4 stars", "1st", "n/a", "A/B", "=x", ":y"),
    *("1/3", "2/3", "3/3", "3 out of 5", "a > b", "a/b", "a & b", "1. x", "> a"),
    *("C", "C++", "C#", "a", "a or b", "a, b", "a: b", "it's", "[x]", "text 1", "other or none"),
    *("\u00df", "\u0130", "\u8bf7", "\u9519\u8bef", "\u00e9tat", "\u0645\u0634\u0643\u0644\u0629"),
    *(
        "\U0001f44d",
        "\U0001f44d\U0001f3fd",
        "\u2764\ufe0f",
        "\u2605",
        "\u2605\u2605",
        "\u2605\u2606",
        "1\ufe0f\u20e3",
    ),
    *(
        "\U0001f468\u200d\U0001f467",
        "\U0001f468",
        "\U0001f1e9\U0001f1ea",
        "\U0001d4b3",
        "\u2192",
        "\U0001f44d good",
    ),
    *(
        "\u092c\u093f",
        "\u092c\u093f\u0932",
        "\u0e14\u0e35",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0645\u06cc",
    ),
)


@given(st.data(), st.sampled_from(["lines", "numbered", "json"]))
def test_read_what_was_asked(data: st.DataObject, answer_format: Format) -> None:
    """An answer in the form that was asked for is read whole, whatever the labels."""
    words = data.draw(st.lists(st.sampled_from(_REAL), min_size=2, unique=True))
    labels = data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=40))
    read_by = Reader(words={word: word for word in words}, answer_format=answer_format)
    found = read_by.read(answers.written(labels, answer_format), len(labels))
    assert found == (labels, 0)


@given(st.lists(LABELS, min_size=2), st.sampled_from(["\n", ", ", " ", "\n\n2. "]))
def test_read_joined(labels: list[str], between: str) -> None:
    """Labels with nothing but punctuation between them are all found, in order."""
    found = _many(between.join(labels), len(labels))
    assert found == labels


def test_score_by_position() -> None:
    """The i-th label found answers the i-th text."""
    found = scoring.score("positive negative", [P, P, N], cut=False)
    assert found.labels == (P, N, None)
    assert (found.num_found, found.num_right, found.num_surplus) == (2, 1, 0)


def test_score_surplus() -> None:
    """Labels beyond one per text are counted and not scored."""
    found = scoring.score("negative\npositive\npositive", [N, P], cut=False)
    assert found.labels == (N, P)
    assert (found.num_found, found.num_right, found.num_surplus) == (2, 2, 1)


def test_score_without_labels() -> None:
    """Texts that have no labels of their own have no right answers."""
    found = scoring.score("negative\npositive", [None, None], cut=False)
    assert (found.labels, found.num_found, found.num_right) == ((N, P), 2, None)


def test_score_nothing() -> None:
    """An answer without labels finds none and has none right."""
    found = scoring.score("", [N], cut=True)
    assert (found.labels, found.num_found, found.num_right) == ((None,), 0, 0)


@given(st.text(), st.lists(LABELS, min_size=1, max_size=6), st.booleans())
def test_score_laws(text: str, expected: list[str], cut: bool) -> None:  # noqa: FBT001
    """Right labels are found ones, found ones are expected ones, and each text has its place."""
    found = scoring.score(text, expected, cut=cut)
    assert found.num_right is not None
    assert 0 <= found.num_right <= found.num_found <= len(expected) == len(found.labels)
    assert found.num_found == sum(label is not None for label in found.labels)
    assert found.num_surplus >= 0


def test_score_logprobs_one_branch() -> None:
    """The likeliest first token gives the label; its share among the labels is the confidence."""
    (root,) = answers.branches([[7], [8]], [0])
    found = scoring.score_logprobs([(root, {7: math.log(0.02), 8: math.log(0.06)})], (P, N), N)
    assert (found.labels, found.num_right) == ((N,), 1)
    assert found.confidence == pytest.approx(0.75)


def test_score_logprobs_shared_beginning() -> None:
    """Labels that begin alike share the beginning's mass, by how they continue."""
    branches = answers.branches([[1, 2], [1, 3], [4]], [0])
    assert [branch.prefix for branch in branches] == [(), (1,)]
    logprobs = [{1: math.log(0.6), 4: math.log(0.4)}, {2: math.log(0.1), 3: math.log(0.3)}]
    found = scoring.score_logprobs(list(zip(branches, logprobs, strict=True)), ("x", "y", "z"), "y")
    assert found.labels == ("y",)  # 0.6 * 0.75 against 0.15 and 0.4
    assert found.confidence == pytest.approx(0.45)


def test_branches_label_in_label() -> None:
    """Where one label continues and another ends, any token that ends an answer is the latter's."""
    root, inner = answers.branches([[5], [5, 6], [7]], [0, 9])
    assert root == Branch(prefix=(), options=(((5,), (0, 1)), ((7,), (2,))))
    assert inner == Branch(prefix=(5,), options=(((0, 9), (0,)), ((6,), (1,))))
    assert inner.token_ids == (0, 9, 6)


OWN = ("billing", "bug", "delivery")


def _read_by(labels: tuple[str, ...], text: str, form: Format = "lines") -> list[str | None]:
    reader = Reader(words={label: label for label in labels}, answer_format=form)
    return reader.read(text, 1 if form == "lines" else 3)[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think>Billing? No, a bug.</think>\n\ndelivery", "delivery"),
        ("It may be billing.\n</think>\nbug", "bug"),
        ("<think>\nIt may be billing", None),
        ("<think>\nbilling\n</think>\n", None),
    ],
)
def test_read_thoughts(text: str, found: str | None) -> None:
    """What is thought before the answer is no answer, also where the prompt opened the thought."""
    assert _read_by(OWN, text) == [found]


@pytest.mark.parametrize(
    ("answer_format", "text", "found"),
    [
        ("numbered", "0. billing\n1. bug\n2. delivery", ["billing", "bug", "delivery"]),
        ("numbered", "0. billing\n2. delivery", ["billing", None, "delivery"]),
        ("numbered", "0. billing\n1. bug\n3. delivery", ["bug", None, "delivery"]),
        ("numbered", "(1) billing (2) bug (3) delivery", ["billing", "bug", "delivery"]),
        ("json", '{"0": "billing", "1": "bug", "2": "delivery"}', ["billing", "bug", "delivery"]),
        ("json", '{"1": "billing", "2": null, "3": "delivery"}', ["billing", None, "delivery"]),
        ("json", '{"1": ["billing"], "2": [], "3": ["delivery"]}', ["billing", None, "delivery"]),
        ("json", "{'1': 'billing', '3': 'delivery'}", ["billing", None, "delivery"]),
        ("json", '{"1": {"team": "billing"}, "3": {"team": "bug"}}', ["billing", None, "bug"]),
        (
            "json",
            '[{"id": 1, "team": "billing"}, {"id": 2, "team": "bug"}]',
            ["billing", "bug", None],
        ),
        ("json", "<think>1: bug</think>{1: billing, 2: bug}", ["billing", "bug", None]),
    ],
)
def test_read_numbering(answer_format: Format, text: str, found: list[str | None]) -> None:
    """Numbers from 0, values of other kinds and nested ones keep each label at its text."""
    assert _read_by(OWN, text, answer_format) == found


@pytest.mark.parametrize(
    ("answer_format", "text"),
    [
        ("numbered", "1. 2\n2. 0\n3. 1"),
        ("numbered", "2\n0\n1"),
        ("json", '{"1": 2, "2": 0, "3": 1}'),
        ("json", '{"1": "2", "2": "0", "3": "1"}'),
        ("json", "[2, 0, 1]"),
    ],
)
def test_read_labels_that_are_numbers(answer_format: Format, text: str) -> None:
    """The number of a text is not its label."""
    assert _read_by(("0", "1", "2"), text, answer_format) == ["2", "0", "1"]


GRADES = ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("labels", "text", "found"),
    [
        (GRADES, "4/5", "4"),
        (GRADES, "Rating: 4 / 5 stars", "4"),
        (GRADES, "I'd rate it 4 out of 5.", "4"),
        (GRADES, "4 of 5", "4"),
        (GRADES, "1/2/3/4/5", None),
        (("0", "1"), "0/1", None),
        (("1 star", "2 stars", "3 stars", "4 stars", "5 stars"), "4 out of 5 stars", "4 stars"),
        (("1/3", "2/3", "3/3"), "2/3", "2/3"),
        (("1", "2", "3 out of 5", "5"), "3 out of 5", "3 out of 5"),
    ],
)
def test_read_grades(labels: tuple[str, ...], text: str, found: str | None) -> None:
    """The end of a scale is not the grade."""
    assert _read_by(labels, text) == [found]


def test_read_grades_by_line() -> None:
    reader = Reader(words={grade: grade for grade in GRADES}, answer_format="numbered")
    assert reader.read("1. 4/5\n2. 3 out of 5\n3. 5/5", 3) == (["4", "3", "5"], 0)


LEVELS = ("Billing", "Billing > Refund", "Billing > Refund > Partial", "bug report/urgent")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Billing>Refund", "Billing > Refund"),
        ("Billing -> Refund >Partial.", "Billing > Refund > Partial"),
        ("billing > refund", "Billing > Refund"),
        ("Billing.", "Billing"),
        ("Bug report / urgent", "bug report/urgent"),
    ],
)
def test_read_levels(text: str, found: str) -> None:
    """A label of several levels is not its first one where a space is missing."""
    assert _read_by(LEVELS, text) == [found]


@pytest.mark.parametrize(
    ("text", "found"),
    [("1", "1"), ("-1", None), ("1.5", None), ("10", None), ("1.0", "1"), ("1.05", None)],
)
def test_read_part_of_a_number(text: str, found: str | None) -> None:
    """A label that is a number is not read from another number."""
    assert _read_by(("0", "1", "2"), text) == [found]


@pytest.mark.parametrize(
    ("labels", "text", "found"),
    [
        (("5 stars", "4 stars"), "5 stars", "5 stars"),
        (("not spam", "spam"), "not_spam", "not spam"),
        (("not spam", "spam"), "Not-spam.", "not spam"),
        (("ham", "spam"), "not_spam", None),
        (("bug_report", "question"), "Bug report", "bug_report"),
        (("\u0130stanbul", "ankara"), "istanbul", None),
        (("\u0130stanbul", "ankara"), "\u0130STANBUL", "\u0130stanbul"),
        (("k\u00f6ln-sk", "x"), "k\u00f6ln-\u017fk", "k\u00f6ln-sk"),
        (("\u03bcs", "ms"), "\u00b5s", "\u03bcs"),
        (("stra\u00dfe", "weg"), "STRASSE", "stra\u00dfe"),
        (("\u00e9tat", "x"), "E\u0301tat", "\u00e9tat"),
    ],
)
def test_read_spellings(labels: tuple[str, ...], text: str, found: str | None) -> None:
    """Joints between words, case beyond ASCII and composed letters do not hide a label."""
    assert _read_by(labels, text) == [found]


UP, DOWN, STAR, HEART = "\U0001f44d", "\U0001f44e", "\u2605", "\u2764"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("labels", "text", "found"),
    [
        ((UP, DOWN), f"ok{UP}", UP),
        ((UP, DOWN), f"**{UP}**", UP),
        ((UP, DOWN), f"The comment is positive: {UP}{UP}{UP}", UP),
        ((UP, DOWN), f"{UP} or {DOWN}", None),
        ((UP, DOWN), f"{UP}{DOWN}", None),
        ((UP, DOWN), f"{UP}\U0001f3fd", UP),
        ((UP, f"{UP}\U0001f3fd"), f"{UP}\U0001f3fd", f"{UP}\U0001f3fd"),
        ((f"{HEART}\ufe0f", UP), HEART, f"{HEART}\ufe0f"),
        ((HEART, UP), f"{HEART}\ufe0f", HEART),
        (("\U0001f468", UP), FAMILY, None),
        (("\U0001f467", UP), FAMILY, None),
        ((FAMILY, "\U0001f468"), FAMILY, FAMILY),
        ((STAR, STAR * 2, STAR * 3), f"Rating:{STAR * 2}", STAR * 2),
        ((STAR, STAR * 3), STAR * 2, None),
        ((STAR, STAR * 5), STAR * 10, None),
        ((f"{UP} good", f"{DOWN} bad"), f"{UP}_good", f"{UP} good"),
        (("C++ code", "C"), "C++  code", "C++ code"),
        (("1", "2"), "1\ufe0f\u20e3", "1"),
        # Vowel signs and joiners are no letters to a pattern, and part of a word.
        (("\u0915\u0940 \u092c", "x"), "\u0915\u0940  \u092c", "\u0915\u0940 \u092c"),
        (("\u092c\u093f\u0932", "x"), "\u092c\u093f\u0932\u0964", "\u092c\u093f\u0932"),
        (("\u092c\u093f\u0932", "x"), "\u092c\u093f\u0932\u093f\u0902\u0917", None),
        (("\u0917", "x"), "\u092c\u093f\u0932\u093f\u0917", None),
        (("\u0e14", "\u0e01"), "\u0e14\u0e35", None),
        (("\u0645\u06cc", "x"), "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        (
            ("\u05d7\u05d9\u05d5\u05d1", "x"),
            "\u05d4\u05d9\u05d0 \u05d7\u05d9\u05d5\u05d1.",
            "\u05d7\u05d9\u05d5\u05d1",
        ),
    ],
)
def test_read_symbols_and_signs(labels: tuple[str, ...], text: str, found: str | None) -> None:
    """A symbol is a label wherever it stands alone; a part of an emoji or of a word is none."""
    assert _read_by(labels, text) == [found]


def test_read_symbols_by_line() -> None:
    """A symbol said twice in a line is one answer."""
    reader = Reader(words={UP: UP, DOWN: DOWN})
    assert reader.read(f"{UP}{UP}\n{DOWN}\n2 reasons: {UP}", 3) == ([UP, DOWN, UP], 0)
