"""Which labels an answer holds, and whether they are right.

Pure functions over text. An answer is read as it was asked for: several labels by line, by number
or by JSON key, so that what stands around them (a preamble, the echoed question) is no answer. An
answer to one text is its last label; one that contradicts itself holds none. What a model thinks
before its answer is none, either.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from packsweep.sweep.answers import JOINT, SEPARATOR, Branch
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import Format
from packsweep.sweep.task import SENTIMENT
from packsweep.sweep.texts.text import JOINERS, composed, is_joining

# An answer cut by its token limit may end inside a label; three letters are enough to tell.
_LEAST_CUT = 3
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f\uff1b])|\n")
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|no|without|rather than|instead of)\b|n['\u2019]t\b", re.IGNORECASE
)
# Of two, 0/1 lists what there is to choose from.
_LEAST_GRADES = 3
_NEGATED_WORDS = 6  # "I would not call this a very positive comment"
# Thai to Khmer, kana, Han, Hangul: no spaces between words, or endings joined to them.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f"
)
_UNSPACED_NEGATION = re.compile(
    r"(?:[\u4e0d\u975e\u7121\u65e0]|[\u6ca1\u6c92]\u6709?)[\u662f\u7b97\u5c5e\u5c6c]?\s*\Z"
)
_LETTER = rf"[^\W_{_UNSPACED}]"
_NUMBER = re.compile(
    r"[\W_]*(?:[a-z]+\s*#?\s*)?(\d{1,7})\s*[.):\-\u2013\u2014=|\]\s]+", re.IGNORECASE
)
_VALUE = r"""("[^"]*"|'[^']*'|\[[^\[\]]*\]|\{[^{}]*\}|[^\s"',{}\[\]]+)"""
_PAIR = re.compile(rf"""["']?(\d{{1,7}})["']?\s*:\s*{_VALUE}""")
_ITEM = re.compile(_VALUE)
_THOUGHT_END = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile(r"<think(?:ing)?>.*", re.DOTALL | re.IGNORECASE)
_BETWEEN_ALTERNATIVES = re.compile(
    r"[\s\"'`*,()]*(?:\b(?:or|and/or)\b|/)[\s\"'`*()]*(?:an?\s+)?[\"'`*(]*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one answer held.

    Attributes:
        labels: the label found for each text, in order; None where there was none.
        num_found: texts for which a label was found.
        num_right: texts whose label is the expected one; None where a text has no label of its own.
        num_surplus: labels beyond one per text.
        confidence: probability of the label among all labels; of an answer by log-probabilities.
    """

    labels: tuple[str | None, ...]
    num_found: int
    num_right: int | None
    num_surplus: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class _Mention:
    """A label in a text, from ``start`` to ``end``."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads answers in which labels are written in one way.

    Attributes:
        words: what an answer may write -> the label that it means.
        answer_format: how labels for several texts are written.
        exact_case: capital letters and small ones differ, as for the letters A, B, C.
    """

    words: Mapping[str, str]
    answer_format: Format = "lines"
    exact_case: bool = False
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _known: dict[str, str] = field(init=False, repr=False, compare=False)
    _meant: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _folds: bool = field(init=False, repr=False, compare=False)
    _scale: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the pattern of a label: the longest first, and whole words alone."""
        ascii_only = all(map(str.isascii, self.words))
        object.__setattr__(self, "_folds", not (ascii_only or self.exact_case))
        known = {self._key(self._folded(word)): label for word, label in self.words.items()}
        object.__setattr__(self, "_known", known)
        longest_first = sorted(known, key=len, reverse=True)
        # The label that each group of the pattern stands for.
        object.__setattr__(self, "_meant", tuple(known[word] for word in longest_first))
        repeated = {char for word in known for char in word if char * 2 in word}
        either = "|".join(f"({_pattern_of(word, repeated)})" for word in longest_first)
        flags = 0 if self.exact_case or self._folds else re.IGNORECASE
        if ascii_only:
            flags |= re.ASCII  # letters that only look like a label's are none
        object.__setattr__(self, "_pattern", re.compile(f"(?:{either})", flags))
        object.__setattr__(self, "_scale", _scale(self.words))

    def read(self, text: str, num_texts: int, *, cut: bool = False) -> tuple[list[str | None], int]:
        """Return a label or None for each text, and how many labels were left over.

        ``cut`` says that a token limit ended the answer.
        """
        text = self._scale.sub("", self._folded(_without_thoughts(text)))
        if self.answer_format == "json":
            placed, surplus = self._by_pairs(text, num_texts, cut=cut)
        elif self.answer_format == "numbered":
            placed, surplus = self._by_number(text, num_texts, cut=cut)
        else:
            placed, surplus = {}, 0
        if any(placed.values()):
            return [placed.get(number) for number in range(1, num_texts + 1)], surplus
        if num_texts == 1:
            return self._single(text, cut=cut)
        return self._by_line(text, num_texts, cut=cut)

    def _folded(self, text: str) -> str:
        """Return ``text`` composed as labels are, and in one case beyond ASCII.

        A pattern that ignores case takes letters for alike that their lower cases are not, as of İ.
        """
        plain = text if text.isascii() else composed(text)
        return plain.casefold() if self._folds else plain

    def _key(self, word: str) -> str:
        plain = JOINT.sub(" ", word)
        return plain if self.exact_case else plain.lower()

    def _mentions(self, text: str, *, cut: bool) -> list[_Mention]:
        found: list[_Mention] = []
        for match in self._pattern.finditer(text):
            (start, end), label = match.span(), self._meant[(match.lastindex or 1) - 1]
            if _is_part(text, start, end):
                continue
            if found and (found[-1].end, found[-1].label) == (start, label):
                start = found.pop().start  # a symbol several times over is said once
            found.append(_Mention(label, start, end))
        last = self._cut_mention(text, found) if cut else None
        if last is None:
            return found
        return [*(mention for mention in found if mention.end <= last.start), last]

    def _cut_mention(self, text: str, found: Sequence[_Mention]) -> _Mention | None:
        """Return the label that the end of ``text`` begins, if it can be one label alone."""
        after = found[-1].start if found else 0
        if found and found[-1].end == len(text):
            return None
        # From the longest end that may begin a label to the shortest that tells.
        longest = max(map(len, self._known))
        for length in range(min(longest, len(text) - after), _LEAST_CUT - 1, -1):
            start = len(text) - length
            end = text[start:]
            strange = not (self._folds or end.isascii())
            if (start and text[start - 1].isalnum()) or strange or not end[0].isalnum():
                continue
            key = self._key(end)
            labels = {label for word, label in self._known.items() if word.startswith(key)}
            if len(labels) == 1:
                return _Mention(labels.pop(), start, len(text))
        return None

    def _answers(self, text: str, *, cut: bool) -> list[_Mention]:
        """Return the mentions that may be meant: neither negated nor one of listed alternatives."""
        found = self._mentions(text, cut=cut)
        listed = {
            index
            for index, (one, other) in enumerate(itertools.pairwise(found))
            if _BETWEEN_ALTERNATIVES.fullmatch(text[one.end : other.start])
        }
        echoed = listed | {index + 1 for index in listed}
        for index in sorted(listed, reverse=True):  # "billing, bug or other"
            while index and re.fullmatch(r"[\s\"'`*]*,[\s\"'`*]*", _gap(text, found, index - 1)):
                index -= 1  # noqa: PLW2901
                echoed.add(index)
        return [
            mention
            for index, mention in enumerate(found)
            if index not in echoed and not _negated(text, mention)
        ]

    def _single(self, text: str, *, cut: bool) -> tuple[list[str | None], int]:
        """Return the label of the last sentence that has one; none where it has several."""
        mentions = self._answers(text, cut=cut)
        if not mentions:
            return [None], 0
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        begin = max((end for end in ends if end <= mentions[-1].start), default=0)
        labels = {mention.label for mention in mentions if mention.start >= begin}
        return [labels.pop() if len(labels) == 1 else None], len(mentions) - 1

    def _by_line(self, text: str, num_texts: int, *, cut: bool) -> tuple[list[str | None], int]:
        lines = [line for line in text.splitlines() if line.strip()]
        numbers, rests = zip(*map(self._numbered, lines), strict=True) if lines else ((), ())
        read = [
            self._line(rest, cut=cut and index == len(rests) - 1)
            for index, rest in enumerate(rests)
        ]
        own = {
            number: labels[0]
            for number, labels in zip(numbers, read, strict=True)
            if number is not None and labels and len(labels) == 1
        }
        answered = [labels for labels in read if labels]
        if len(own) == len(answered) and own and _rises(list(own), num_texts):
            return [own.get(number) for number in range(1, num_texts + 1)], 0
        body = read[_preamble(lines, read) :]
        if len(body) == num_texts and all(len(labels) <= 1 for labels in body):
            return [labels[0] if labels else None for labels in body], 0
        found: list[str | None] = [label for labels in read for label in labels]
        kept = found[:num_texts]
        return kept + [None] * (num_texts - len(kept)), len(found) - len(kept)

    def _line(self, line: str, *, cut: bool) -> list[str]:
        """Return the labels that a line gives: all of a bare list, else the one that it states."""
        mentions = self._mentions(line, cut=cut)
        rest = "".join(
            line[one:other]
            for one, other in zip(
                [0, *(mention.end for mention in mentions)],
                [*(mention.start for mention in mentions), len(line)],
                strict=True,
            )
        )
        if not re.search(r"[^\W\d_]", rest) and "/" not in rest:
            return [mention.label for mention in mentions]
        if line.rstrip().endswith(":"):
            return []  # announces what follows
        labels = {mention.label for mention in self._answers(line, cut=cut)}
        return list(labels) if len(labels) == 1 else []

    def _numbered(self, line: str) -> tuple[int | None, str]:
        """Return the number of a line and what follows it; of a label such as 5 stars, none."""
        match = _NUMBER.match(line)
        if match is None:
            return None, line
        own = self._pattern.match(line, match.start(1))
        label = self._pattern.search(line, match.end(1) + 1)
        begins_label = own is not None and re.search(r"[^\W\d_]", own[0]) is not None
        if begins_label or (label is None and self._pattern.search(line)):
            return None, line
        # Of a label such as -1 the dash belongs to the label.
        end = match.end() if label is None else min(match.end(), label.start())
        return int(match[1]), line[end:]

    def _by_number(
        self, text: str, num_texts: int, *, cut: bool
    ) -> tuple[dict[int, str | None], int]:
        lines = text.splitlines()
        pairs = []
        for index, line in enumerate(lines):
            number, rest = self._numbered(line)
            if number is not None:
                labels = self._line(rest, cut=cut and index == len(lines) - 1)
                pairs.append((number, labels[0] if len(labels) == 1 else None))
        return _placed(pairs, num_texts)

    def _by_pairs(
        self, text: str, num_texts: int, *, cut: bool
    ) -> tuple[dict[int, str | None], int]:
        pairs = [(int(number), value) for number, value in _PAIR.findall(text)]
        if cut and (open_pair := re.search(r'"?(\d{1,7})"?\s*:\s*"([^"]*)$', text)):
            pairs.append((int(open_pair[1]), open_pair[2]))
        if not pairs and "[" in text:
            pairs = list(enumerate(_ITEM.findall(text[text.index("[") + 1 :]), 1))
        last = len(pairs) - 1
        read = [
            (number, self._single(value, cut=cut and index == last)[0][0])
            for index, (number, value) in enumerate(pairs)
        ]
        return _placed(read, num_texts)


def _gap(text: str, found: Sequence[_Mention], index: int) -> str:
    return text[found[index].end : found[index + 1].start]


def _negated(text: str, mention: _Mention) -> bool:
    """Return whether a negation stands a few words before, in the same clause."""
    if _UNSPACED_NEGATION.search(text, 0, mention.start):
        return True
    before = text[: mention.start].replace("_", " ")
    clause = re.split(r"[.!?;,:\n]|\bbut\b", before)[-1]
    return _NEGATION.search(" ".join(clause.split()[-_NEGATED_WORDS:])) is not None


def _without_thoughts(text: str) -> str:
    """Return what follows a model's thoughts; nothing where they have not ended."""
    return _THOUGHT.sub("", _THOUGHT_END.sub("", text))


def _pattern_of(word: str, repeated: Collection[str]) -> str:
    """Return what matches a label: a whole word, where its script parts words.

    A number is none where it is part of another, as in 1.5, nor is one of the ``repeated`` symbols
    where another follows, as one star of two.
    """
    pattern = r"[\s_-]*".join(
        r"[\s_-]+".join(map(re.escape, part.split(" "))) for part in SEPARATOR.split(word)
    )
    strange_before, strange_after = (_strange_beside(end, repeated) for end in (word[0], word[-1]))
    before = strange_before and f"(?<!{strange_before})"
    after = strange_after and f"(?!{strange_after})"
    if word[0].isdigit():
        before += r"(?<!\d\.)(?<![\s(]-)(?<!\A-)"
    if word[-1].isdigit():
        after += r"(?!\.\d*[1-9])(?!\.\d+\.)" if word.isdigit() else r"(?!\.\d)"  # 4.0 is 4
    return f"{before}{pattern}{after}"


def _scale(words: Collection[str]) -> re.Pattern[str]:
    """Return what matches the end of a scale behind a grade: 4/5, 4 out of 5 stars."""
    grades = {int(found[0]) for word in words if (found := re.match(r"[0-9]{1,9}", word))}
    most, between = max(grades, default=0), r"(?:\s*/\s*|\s+(?:out\s+)?of\s+)"
    made = re.compile(rf"(?<=\d){between}{most}(?!\d|\.\d|\s*/)", re.IGNORECASE)
    known = len(grades) >= _LEAST_GRADES and not any(map(made.search, words))
    return made if known else re.compile(r"(?!)")


def _strange_beside(end: str, repeated: Collection[str]) -> str:
    """Return a pattern of what cannot stand beside a label that begins or ends so."""
    if _is_symbol(end):
        return re.escape(end) if end in repeated else ""
    return "" if _is_unspaced(end) else _LETTER


def _is_unspaced(letter: str) -> bool:
    return re.match(f"[{_UNSPACED}]", letter) is not None


def _is_symbol(char: str) -> bool:
    """Return whether a character is a symbol beyond ASCII that stands by itself, as an emoji."""
    return not (char.isascii() or char.isalnum() or _is_joined(char))


def _is_joined(char: str) -> bool:
    """Return whether a character belongs to the one before: a vowel sign, a joiner, a tag."""
    return unicodedata.category(char) in {"Mn", "Mc"} or is_joining(char)


def _is_part(text: str, start: int, end: int) -> bool:
    """Return whether a match is part of a word or emoji, by characters that are no letters."""
    if end < len(text) and _is_joined(text[end]):
        return True
    first, before = text[start], text[start - 1] if start else " "
    spaced = first.isalnum() and not _is_unspaced(first)
    return before in JOINERS or (spaced and _is_joined(before))


def _rises(numbers: Sequence[int], num_texts: int) -> bool:
    return numbers == sorted(set(numbers)) and numbers[0] >= 1 and numbers[-1] <= num_texts


def _preamble(lines: Sequence[str], read: Sequence[Sequence[str]]) -> int:
    """Return how many lines at the beginning announce the answer."""
    count = 0
    while count < len(lines) and not read[count] and lines[count].rstrip().endswith(":"):
        count += 1
    return count


def _placed(
    pairs: Sequence[tuple[int, str | None]], num_texts: int
) -> tuple[dict[int, str | None], int]:
    """Return the first label of each number, and how many labels have no text of their own.

    Numbers that begin with 0 and do not reach the last text count from 0.
    """
    placed: dict[int, str | None] = {}
    surplus = 0
    numbers = {number for number, _ in pairs}
    first = 0 if 0 in numbers and num_texts not in numbers else 1
    for number, label in ((number + 1 - first, label) for number, label in pairs):
        if number in placed or not 1 <= number <= num_texts:
            surplus += label is not None
        else:
            placed[number] = label
    return placed, surplus


@lru_cache(maxsize=64)
def reader(cell: Cell) -> Reader:
    """Return what reads the answers of ``cell``."""
    task = cell.labelling
    words = dict(zip(cell.words, task.labels, strict=True))
    letters = cell.label_form == "letters"
    own = {} if letters else task.spellings
    return Reader(words={**words, **own}, answer_format=cell.format, exact_case=letters)


SENTIMENTS = Reader(words={label: label for label in SENTIMENT.labels} | dict(SENTIMENT.spellings))


def score(
    text: str, expected: Sequence[str | None], *, cut: bool, read_by: Reader = SENTIMENTS
) -> Score:
    """Compare the labels in ``text`` with the ``expected`` ones, position by position."""
    labels, surplus = read_by.read(text, len(expected), cut=cut)
    return _score(labels, expected, surplus, None)


def _score(
    labels: Sequence[str | None],
    expected: Sequence[str | None],
    num_surplus: int,
    confidence: float | None,
) -> Score:
    right = sum(label == own for label, own in zip(labels, expected, strict=True))
    return Score(
        labels=tuple(labels),
        num_found=sum(label is not None for label in labels),
        num_right=None if None in expected else right,
        num_surplus=num_surplus,
        confidence=confidence,
    )


def score_logprobs(
    branches: Sequence[tuple[Branch, Mapping[int, float]]],
    labels: Sequence[str],
    expected: str | None,
) -> Score:
    """Return the likeliest of ``labels``, from how labels continue wherever they part.

    Args:
        branches: every branch and the log-probabilities of its tokens.
        labels: in the order of the indices that branches name.
        expected: the text's own label.
    """
    totals = [0.0] * len(labels)
    for branch, logprobs in branches:
        masses = [
            math.fsum(math.exp(logprobs[token]) for token in tokens) for tokens, _ in branch.options
        ]
        whole = math.fsum(masses)
        for mass, (_, members) in zip(masses, branch.options, strict=True):
            for index in members:
                totals[index] += math.log(mass / whole) if mass > 0 else -math.inf
    best = max(range(len(labels)), key=totals.__getitem__)
    return _score([labels[best]], [expected], 0, math.exp(totals[best]))
