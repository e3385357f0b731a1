"""Reads a sweep file and says in one line what is wrong with it."""

from __future__ import annotations

import copy
import itertools
import json
import shlex
import stat
import tomllib
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError

from packsweep.errors import SpecError, nearest, shown
from packsweep.sweep import task
from packsweep.sweep.contradictions import (
    MOST_CELLS,
    contradiction,
    num_cells,
    too_many_cells,
)
from packsweep.sweep.spec import Sweep

# Tables that a variant may change: the others hold for a whole sweep.
VARIED = ("grid", "engine", "measure", "simulated", "texts", "online")
# Of the table of texts how much of each is sent; where they come from holds for a whole sweep.
_VARIED_OF_TEXTS = ("max_tokens", "keep", "markup")
# One order and one key serve all cells, and a cell with an engine of its own beside a shared one
# would not be alone on its GPU.
_NOT_VARIED = ("measure.isolation", "measure.order_seed", "online.api_key_env")
_MOST_BYTES = 1 << 20
_MOST_VARIANTS = 1000
_OVERRIDE = "# --set "
_BOM = "\ufeff"
_LONGEST_VALUE = 80
# A key of no table, and what it says where it says anything.
_ALONE = {"mode": "online"}
# Where pydantic finds a value of several types: table, key, name in it, type.
_LOC_OF_UNION = 4
# A kind of problem -> what pydantic says of it, in the words of a sweep file.
_EXPECTED = {
    "string_type": "expected a text in quotes",
    "tuple_type": 'expected a list such as ["one", "two"]',
    "too_short": "expected at least one value",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
}


def load(path: Path, overrides: Sequence[str] = (), content: bytes | None = None) -> Sweep:
    """Read the sweep file at ``path`` and apply ``--set`` values to it.

    Args:
        path: a TOML file.
        overrides: ``table.key=value`` strings; the value is TOML, or plain text where it is not.
        content: of the file, where it was read before: a pipe can be read only once.

    Raises:
        SpecError: the file is not there, is no TOML, or holds something that is not allowed.
    """
    return parse(_read_toml(path, content), where=str(path), overrides=overrides)


def kept(text: str) -> Sweep:
    """Return the sweep that was run, from the file that a run keeps with its results.

    Raises:
        SpecError: the text is no sweep file of this version.
    """
    try:
        values = _toml(text)
    except ValueError as error:
        raise SpecError(f"sweep.toml: is not valid TOML: {error}") from None
    return parse(values, where="sweep.toml", overrides=kept_overrides(text))


def with_overrides(content: bytes, overrides: Sequence[str]) -> bytes:
    """Return what a run keeps: the sweep file, and what overrode it, a comment line each."""
    more = "".join(f"{_OVERRIDE}{override}\n" for override in overrides)
    needs_newline = more and content and not content.endswith(b"\n")
    return content + (b"\n" if needs_newline else b"") + more.encode()


def kept_overrides(text: str) -> list[str]:
    """Return the ``--set`` values that a run noted below the sweep file."""
    below = itertools.takewhile(
        lambda line: line.startswith(_OVERRIDE), reversed(text.splitlines())
    )
    return [line.removeprefix(_OVERRIDE) for line in below][::-1]


def parse(values: dict[str, Any], *, where: str, overrides: Sequence[str] = ()) -> Sweep:
    """Check the tables of a sweep file; ``where`` names the file in messages.

    Overrides hold for the sweep and for every variant.

    Raises:
        SpecError: with the first thing that is wrong, in one line.
    """
    try:
        return _parsed(values, where, overrides)
    except RecursionError:
        raise SpecError(f"{where}: is nested too deeply") from None


def _parsed(values: dict[str, Any], where: str, overrides: Sequence[str]) -> Sweep:
    common = {name: table for name, table in values.items() if name != "variant"}
    sweep = _checked(common, where, overrides)
    variants = []
    for number, changes in enumerate(_list_of_variants(values, where), 1):
        told = f"{where}: variant {number}"
        varied = _varied(common, changes, told)
        own = frozenset(f"{name}.{key}" for name, table in changes.items() for key in table)
        variants.append(_checked(varied, told, overrides, own))
    total = sum(map(num_cells, (sweep, *variants)))
    if total > MOST_CELLS:
        raise SpecError(f"{where}: {too_many_cells(total)}")
    return sweep.model_copy(update={"variant": tuple(variants)})


def _list_of_variants(values: dict[str, Any], where: str) -> list[Any]:
    found = values.get("variant", [])
    if not isinstance(found, list):
        raise SpecError(f"{where}: variant: is a list of tables; write [[variant]]")
    if len(found) > _MOST_VARIANTS:
        many = f"{len(found):,} variants are more than the {_MOST_VARIANTS:,} allowed"
        raise SpecError(f"{where}: variant: {many}")
    return found


def _varied(common: dict[str, Any], changes: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    """Return the tables with the variant's values in place of theirs."""
    merged = dict(common)
    for name, table in changes.items() if isinstance(changes, dict) else [("", changes)]:
        if name not in VARIED or not isinstance(table, dict):
            allowed = ", ".join(f"{each}.KEY = VALUE" for each in VARIED)
            raise SpecError(f"{where}: {name or shown(table)} cannot be varied; write {allowed}")
        for key in table:
            fixed = f"{name}.{key}" in _NOT_VARIED
            if fixed or (name == "texts" and key not in _VARIED_OF_TEXTS):
                raise SpecError(f"{where}: {name}.{key}: must be the same for the whole sweep")
        merged[name] = {**merged.get(name, {}), **table}
    if merged.get("engine", {}).get("kind") != common.get("engine", {}).get("kind"):
        raise SpecError(f"{where}: engine.kind: must be the same for the whole sweep")
    return merged


def _checked(
    values: dict[str, Any],
    where: str,
    overrides: Sequence[str],
    own: frozenset[str] | None = None,
) -> Sweep:
    """Return what ``values`` and then ``overrides`` say.

    Of a key that has no effect beside the others a variant says nothing, unless it is one of its
    ``own``, which the user wrote for it alone.
    """
    tables = copy.deepcopy(values)
    for override in overrides:
        _apply_override(tables, override)
    _rename(tables, "reviews", "texts", where)
    if isinstance(tables.get("grid"), dict):
        _rename(tables["grid"], "output_tokens_per_review", "output_tokens_per_text", where)
    sweep = _validated(tables, where)
    while found := contradiction(sweep):
        if own is None or found.key in own or found.instead is None:
            raise SpecError(f"{where}: {found.told}")
        table, key = found.key.split(".")
        tables[table][key] = list(found.instead)
        sweep = _validated(tables, where)
    if problem := task.contradiction(sweep):
        raise SpecError(f"{where}: {problem}")
    return sweep


def _validated(tables: dict[str, Any], where: str) -> Sweep:
    try:
        return Sweep.model_validate(tables)
    except ValidationError as error:
        raise SpecError(f"{where}: {_explain(error)}") from None


def _read_toml(path: Path, content: bytes | None) -> dict[str, Any]:
    try:
        return _toml((content_of(path) if content is None else content).decode().removeprefix(_BOM))
    except FileNotFoundError:
        if path.parts and path.parts[0].endswith(":"):  # what a path leaves of https:// or s3://
            raise SpecError(f"{path}: is an address; copy the sweep file to this machine") from None
        found = itertools.chain(*map(path.parent.glob, ("sweeps/*.toml", "*.toml")))
        files = {file.stem: file for file in found}
        near = nearest(path.stem, files)
        hint = f"; did you mean {files[near]}?" if near else ""
        raise SpecError(f"{path}: no such sweep file{hint}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; name a sweep file (*.toml) in it") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:  # a NUL in the name, too
        raise SpecError(f"{path}: is not valid TOML: {error}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None


def content_of(path: Path) -> bytes:
    """Return the content of a file; ``<(command)`` of a shell is one, a device is none."""
    kind = path.stat().st_mode
    passed_on = stat.S_ISFIFO(kind) and path.is_relative_to("/dev/fd")
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or passed_on):
        raise SpecError(f"{path}: is not a regular file")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise SpecError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB, so no sweep file")
    return content


def _toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is none, or nested deeper than Python's parser can follow.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _rename(values: dict[str, Any], former: str, name: str, where: str) -> None:
    """Read a key of an earlier version under its present name; tables of both are joined."""
    if former not in values:
        return
    old, new = values.pop(former), values.get(name)
    if isinstance(old, dict) and isinstance(new, dict) and not old.keys() & new.keys():
        values[name] = {**old, **new}
    elif new is not None:
        raise SpecError(f"{where}: {former} is the former name of {name}: keep one of them")
    else:
        values[name] = old


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = (part.strip() for part in override.partition("="))
    *tables, key = parts = name.split(".")
    if not equals or not all(parts) or len(tables) != (name not in _ALONE):
        raise SpecError(f"--set {override}: {_how_to_set(parts, text)}")
    table = values.setdefault(tables[0], {}) if tables else values
    if not isinstance(table, dict):
        raise SpecError(f"--set {override}: {tables[0]} is not a table")
    table[key] = _toml_value(text, text_only=_is_text(parts))
    if (name, text) == ("mode", "offline"):
        values.pop("online", None)  # without a server it has no effect


def _how_to_set(parts: Sequence[str], text: str) -> str:
    """Say what to write instead of a ``--set`` value that names no key of a table."""
    first, *rest = parts
    keys, homes = _keys(), _homes(first)
    if first == "variant":
        return "a [[variant]] is written in the sweep file; --set grid.n=40 holds for all of them"
    if keys.get(first) and not any(rest):
        return f"{first} is a table; name a key of it, such as {first}.{keys[first][0]}=VALUE"
    if len(rest) > 1 and rest[0] in keys.get(first, ()):
        inner = json.dumps(".".join(rest[1:])), json.dumps(_toml_value(text), default=str)
        homes, rest, text = [f"{first}.{rest[0]}"], [], "{{ {} = {} }}".format(*inner)
    if homes and text and not rest:
        return f"write --set {' or '.join(shlex.quote(f'{home}={text}') for home in homes)}"
    if near := nearest(first, _ALONE):
        return f"did you mean {near}={_ALONE[near]}?"
    return "expected table.key=value, e.g. engine.max_num_seqs=512"


def _toml_value(text: str, *, text_only: bool = False) -> object:
    """Return the value that ``text`` is in TOML, or ``text``.

    In a key whose values are texts, ``12e45678`` is a revision and no number.
    """
    if text_only and not text.startswith(('"', "'", "[")):
        return text
    try:
        return _toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _is_text(parts: Sequence[str]) -> bool:
    """Tell whether the values of a key are texts, and nothing that TOML writes without quotes."""
    found: Any = Sweep
    for part in parts:
        field = getattr(found, "model_fields", {}).get(part)
        found = None if field is None else field.annotation
    kinds = set() if found is None else set(_leaves(found))
    return str in kinds and kinds <= {str, type(None)}


def _leaves(annotation: Any) -> Iterable[Any]:  # noqa: ANN401  (a type)
    """Yield the types that make up ``annotation``; those of a ``Literal``'s words are text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from map(type, arguments)
    elif origin is Annotated:
        yield from _leaves(arguments[0])
    elif arguments:
        for argument in arguments:
            if argument is not Ellipsis:
                yield from _leaves(argument)
        if origin is dict:
            yield dict
    else:
        yield annotation


def _explain(error: ValidationError) -> str:
    """Put the first problem into one line: key, what is wrong, what is allowed."""
    problems = error.errors(include_url=False)
    # A misspelt key is the cause of the key that is then missing: name it first.
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"] if isinstance(part, str)][:2]
    key = ".".join(location)
    more = len({problem["loc"][:2] for problem in problems}) - 1
    return f"{key}: {_problem(first, location)}" + (f" (and {more} more)" if more else "")


def _problem(problem: Any, location: list[str]) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    if problem["type"] == "extra_forbidden":
        return _unknown(location)
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] in {"model_type", "dict_type"}:
        return f"should be a table [{'.'.join(location)}], not {_shown(problem['input'])}"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    expected = _EXPECTED.get(problem["type"], said)
    *_, member = problem["loc"]
    if member == "str" and len(problem["loc"]) == _LOC_OF_UNION:
        expected = "expected a text, a number, true or false"
    return f"{_shown(problem['input'])} is not allowed: {expected}"


def _shown(value: object) -> str:
    """Return a value as a message shows it, and as a sweep file writes it where that differs."""
    if isinstance(value, bool | date):
        return str(value).lower()
    return repr(value) if value is None or value == "" else shown(value, _LONGEST_VALUE)


def _unknown(location: list[str]) -> str:
    table, *below = location
    keys = _keys()
    if not below:
        return f"unknown table{_did_you_mean(table, keys)}"
    (key,) = below
    if key in _ALONE:
        value = _ALONE[key]
        return f'unknown key; write {key} = "{value}" above the first table, or --set {key}={value}'
    near = nearest(key, keys[table])
    homes = _homes(key) or ([f"{table}.{near}"] if near else [])
    if homes:
        return f"unknown key; did you mean {' or '.join(homes)}?"
    return f"unknown key; {table} knows {', '.join(sorted(keys[table]))}"


def _keys() -> dict[str, list[str]]:
    """Return the names at the top of a sweep file, and the keys of each table."""
    fields = {name: field.annotation for name, field in Sweep.model_fields.items()}
    return {name: list(getattr(table, "model_fields", ())) for name, table in fields.items()}


def _homes(key: str) -> list[str]:
    """Return where a key of a table stands, such as ``grid.n``."""
    return [f"{table}.{key}" for table, keys in _keys().items() if key in keys]


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = nearest(word, names)
    return f"; did you mean {near}?" if near else f"; known are {', '.join(sorted(names))}"
