"""Label a whole file of texts with vLLM, as packsweep measured it.

    python label.py tickets.csv labels/                   # column, model: as measured
    python label.py tickets.parquet labels/ --column body
    CUDA_VISIBLE_DEVICES=3 python label.py tickets.csv labels/ --part 3/8   # one of 8 GPUs

INPUT is CSV, TSV, JSON, JSONL, Parquet or text lines; all but Parquet may be compressed (.gz, .bz2,
.xz, .zst, .zip). OUTPUT is a folder of Parquet files, a row for each row of INPUT: its number from
0, the label (null where there is none), and the answer. A file is there whole or not at all: after
a stop the same command resumes. Needs vllm and pyarrow.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packsweep.errors import PacksweepError
from packsweep.machine.processor import one_process
from packsweep.models.chat import ChatTemplate
from packsweep.run.measure.scoring import Reader, score_logprobs
from packsweep.sweep.answers import Branch, pattern
from packsweep.sweep.prompts import Asking, Prompt, branched, build
from packsweep.sweep.task import LabellingTask
from packsweep.sweep.texts.columns import TEXT_NAMES
from packsweep.sweep.texts.cut import broken_up, shortened, without_markup
from packsweep.sweep.texts.rows import DELIMITERS, delimited, kind, objects, opened
from packsweep.sweep.texts.text import LabelledText, checked_text, is_blank

# What the recommended cell measured; written by packsweep recommend.
SETTINGS: dict[str, Any] = {}

SHARD_TEXTS = 10_000
_WRONG_USE = 2


class Labeller:
    """The engine and the question, as measured."""

    def __init__(self, model: str | None = None) -> None:
        """Start vLLM; ``model`` names another place of the same model."""
        set_environment()
        from vllm import LLM

        engine = dict(SETTINGS["engine"])
        if model is not None:
            engine.update(model=model, tokenizer=model)
        self._llm = LLM(**engine)
        config = self._llm.llm_engine.vllm_config
        self._max_model_len = int(config.model_config.max_model_len)

    def label(self, texts: Sequence[str]) -> list[tuple[str | None, str | None]]:
        """Return a label and the answer for each text; None where there is none."""
        sent = [shorten(text, self._llm.get_tokenizer()) for text in texts]
        asked = [index for index, text in enumerate(sent) if text and not text.isspace()]
        found: list[tuple[str | None, str | None]] = [(None, None)] * len(texts)
        requests = prompts([sent[index] for index in asked])
        answered: dict[int, list[tuple[Prompt, Any]]] = {}
        for prompt, output in self._generate([each for each in requests if self._fits(each)]):
            answered.setdefault(prompt.first, []).append((prompt, output))
        for first, own in answered.items():
            text = own[0][1].text
            for place, label in enumerate(read(own)):
                found[asked[first + place]] = (label, text)
        return found

    def _generate(self, requests: Sequence[Prompt]) -> Iterator[tuple[Prompt, Any]]:
        if not requests:
            return
        options = {} if requests[0].add_special_tokens else {"add_special_tokens": False}
        given: list[Any] = [prompt.text for prompt in requests]
        if SETTINGS["prompt_type"] == "tokens":
            ids = self._llm.get_tokenizer()(given, **options)["input_ids"]
            given = [{"prompt_token_ids": own} for own in ids]
        outputs = self._llm.generate(
            given,
            [sampling_params(prompt) for prompt in requests],
            tokenization_kwargs=options or None,
        )
        for prompt, output in zip(requests, outputs, strict=True):
            yield prompt, output.outputs[0]

    def _fits(self, prompt: Prompt) -> bool:
        """Tell whether a prompt and its answer fit the context; a token has a byte or more."""
        room = self._max_model_len - max_tokens(prompt)
        if len(prompt.text.encode()) < room:
            return True
        num_tokens = len(self._llm.get_tokenizer().encode(prompt.text))
        return num_tokens <= room


def set_environment() -> None:
    """Set what vLLM reads when it is imported, as it was measured; what is set already stays."""
    given = {"VLLM_NO_USAGE_STATS": "1", **SETTINGS["environ"]}
    if SETTINGS["in_process"]:
        given |= one_process({**os.environ, **given})
    for name, value in given.items():
        os.environ.setdefault(name, value)


def shorten(text: str, tokenizer: Any) -> str:  # noqa: ANN401  (vLLM's)
    """Return what of a text is sent, the model's control tokens in it broken up."""
    cut = SETTINGS["cut"]
    sent = text if cut["markup"] == "keep" else without_markup(text)
    sent = broken_up(sent, SETTINGS["control_tokens"])
    if cut["max_tokens"]:
        return shortened(sent, tokenizer.backend_tokenizer, cut["max_tokens"], cut["keep"])
    return sent


def prompts(texts: Sequence[str]) -> list[Prompt]:
    """Return the prompts that ask for the labels of ``texts``."""
    chat = SETTINGS["chat"]
    built = build(
        [LabelledText(text=text, label="") for text in texts],
        Asking(**SETTINGS["asking"]),
        task=LabellingTask(**SETTINGS["task"]),
        chat=None if chat is None else ChatTemplate(**chat),
    )
    return list(branched(built, branches())) if branches() else list(built)


def branches() -> list[tuple[str, Branch]]:
    """Return where labels part, of an answer by log-probabilities; nothing of another."""
    return [(text, Branch(**branch)) for text, branch in SETTINGS["branches"]]


def max_tokens(prompt: Prompt) -> int:
    return 1 if prompt.branch else prompt.num_texts * int(SETTINGS["output_tokens_per_text"])


def constraint(prompt: Prompt) -> dict[str, Any]:
    """Return the fields of vLLM's SamplingParams that constrain an answer; none where it is free.

    ``structured_outputs`` is the fields of StructuredOutputsParams.
    """
    form, choice = SETTINGS["asking"]["format"], SETTINGS["choice"]
    if SETTINGS["label_tokens"]:
        return {"allowed_token_ids": list(SETTINGS["label_tokens"])}
    if not choice:
        return {}
    if prompt.num_texts == 1 and form == "lines":
        return {"structured_outputs": {"choice": choice}}
    return {"structured_outputs": {"regex": pattern(choice, prompt.num_texts, form)}}


def sampling_params(prompt: Prompt) -> Any:  # noqa: ANN401  (vLLM's)
    """Return how the answer to ``prompt`` is generated; it ends where the model ends it."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    fields = constraint(prompt)
    if "structured_outputs" in fields:
        fields["structured_outputs"] = StructuredOutputsParams(**fields["structured_outputs"])
    return SamplingParams(
        temperature=0.0,
        max_tokens=max_tokens(prompt),
        logprob_token_ids=list(prompt.branch.token_ids) if prompt.branch else None,
        **fields,
    )


def read(answered: Sequence[tuple[Prompt, Any]]) -> Sequence[str | None]:
    """Return the labels that the answer to a prompt holds, in the order of its texts."""
    prompt, output = answered[0]
    if prompt.branch is None:
        return read_text(output.text, prompt.num_texts, cut=output.finish_reason == "length")
    scored = [
        (own.branch, {token: entry.logprob for token, entry in out.logprobs[0].items()})
        for own, out in answered
        if own.branch is not None
    ]
    return score_logprobs(scored, SETTINGS["task"]["labels"], None).labels


def label_of(token: int) -> str:
    """Return the label that goes on with ``token`` at the one place where all labels part."""
    ((_, branch),) = branches()
    index = next(own[0] for tokens, own in branch.options if token in tokens)
    return str(SETTINGS["task"]["labels"][index])


def read_text(text: str, num_texts: int, *, cut: bool) -> Sequence[str | None]:
    """Return the labels in a written answer; ``cut`` says that its token limit ended it."""
    reader = Reader(answer_format=SETTINGS["asking"]["format"], **SETTINGS["reader"])
    return reader.read(text, num_texts, cut=cut)[0]


def read_texts(path: Path, column: str | None) -> Iterator[str]:
    """Yield the texts of a file; nothing where a row has none."""
    if kind(path.name) == ".parquet":
        yield from _parquet(path, column)
        return
    with opened(path) as (name, lines):
        ending = kind(name)
        if ending in DELIMITERS:
            rows = delimited(path, name, lines, SETTINGS["delimiter"])
            _, header = next(rows)
            at = header.index(_column(column, header))
            yield from (_text(fields[at] if fields[at:] else "", where) for where, fields in rows)
        elif ending in {".jsonl", ".ndjson", ".json"}:
            key = None
            for where, values in objects(path, name, lines):
                key = key or _column(column, list(values))
                yield _text(values.get(key), where)
        else:
            yield from (line.rstrip("\r\n") for line in lines)


def _parquet(path: Path, column: str | None) -> Iterator[str]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        key = _column(column, file.schema_arrow.names)
        row = 0
        for batch in file.iter_batches(columns=[key]):
            for value in batch.column(0).to_pylist():
                row += 1
                yield _text(value, f"{path}: row {row}")


def _text(value: object, where: str) -> str:
    """Return the text of a row, of which a file may leave some out."""
    nothing = value is None or (isinstance(value, str) and is_blank(value))
    return "" if nothing else checked_text(value, where)


def _column(asked: str | None, names: Sequence[str]) -> str:
    wanted = [asked] if asked else [SETTINGS["text_column"], *TEXT_NAMES]
    spelled = {name.strip().lower(): name for name in reversed(names)} | {n: n for n in names}
    found = next((spelled[name] for name in wanted if name in spelled), None)
    if found is None:
        raise ValueError(f"which column holds the texts? --column {' or '.join(names)}")
    return found


def shard_size() -> int:
    """Return how many texts go into a file: whole prompts, so that a resumed run asks the same."""
    each = int(SETTINGS["asking"]["pack_size"] or 1)
    return max(1, SHARD_TEXTS // each) * each


def shards(texts: Iterator[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the texts in runs of ``size``, numbered from 0."""
    for number in itertools.count():
        run = list(itertools.islice(texts, size))
        if not run:
            return
        yield number, run


def write(path: Path, first_row: int, labels: Sequence[tuple[str | None, str | None]]) -> None:
    """Write a file of labels whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "row": pa.array(range(first_row, first_row + len(labels)), pa.int64()),
        "label": pa.array([label for label, _ in labels], pa.string()),
        "answer": pa.array([answer for _, answer in labels], pa.string()),
    }
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(pa.table(columns), scratch)
    scratch.replace(path)


def claim(folder: Path, source: Path, column: str | None) -> None:
    """Note what ``folder`` holds the labels of; refuse a folder of other settings or texts."""
    folder.mkdir(parents=True, exist_ok=True)
    status = source.stat()
    what = json.dumps(
        {
            "settings": hashlib.sha256(json.dumps(SETTINGS, sort_keys=True).encode()).hexdigest(),
            "input": [source.name, status.st_size, status.st_mtime_ns],
            "column": column,
            "texts_per_file": shard_size(),
        }
    )
    note = folder / "_run.json"  # which readers of a folder of Parquet pass over
    if note.exists() and note.read_text(encoding="utf-8") != what:
        raise ValueError(f"{folder} holds labels of another input or of other settings")
    note.write_text(what, encoding="utf-8")


def run(arguments: argparse.Namespace) -> None:
    """Label what is not labelled yet."""
    for _ in read_texts(arguments.input, arguments.column):
        pass  # a row that cannot be read ends it before an engine starts
    claim(arguments.output, arguments.input, arguments.column)
    part, num_parts = arguments.part
    size, labeller, counts, began = shard_size(), None, Counter[str | None](), time.monotonic()
    for number, texts in shards(read_texts(arguments.input, arguments.column), size):
        path = arguments.output / f"labels-{number:06d}.parquet"
        if number % num_parts != part or path.exists():
            continue
        labeller = labeller or Labeller(arguments.model)
        labels = labeller.label(texts)
        write(path, number * size, labels)
        counts.update(label for label, _ in labels)
        rate = counts.total() / (time.monotonic() - began)
        print(f"{path}: {counts.total():,} texts labelled, {rate:.1f} texts/s", flush=True)  # noqa: T201
    told = ", ".join(f"{label or 'no label'} {count:,}" for label, count in counts.most_common())
    print(told or "nothing left to label")  # noqa: T201


def _part(text: str) -> tuple[int, int]:
    part, _, num_parts = text.partition("/")
    if not (part.isdecimal() and num_parts.isdecimal() and int(part) < int(num_parts)):
        raise argparse.ArgumentTypeError(f"{text}: expected I/N, with I from 0 to N - 1")
    return int(part), int(num_parts)


def main() -> None:
    """Label the file that the command line names."""
    parser = argparse.ArgumentParser(description="Label a file of texts.")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--column", help="column that holds the texts")
    parser.add_argument("--model", help="another place of the model that was measured")
    parser.add_argument(
        "--part", default=(0, 1), type=_part, metavar="I/N", help="every N-th file, from I"
    )
    try:
        run(parser.parse_args())
    except (ValueError, OSError, PacksweepError) as error:
        print(f"label.py: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(_WRONG_USE)


if __name__ == "__main__":
    main()
