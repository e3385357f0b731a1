"""Every key of a sweep file as a page: ``python -m packsweep.sweep.keys > docs/KEYS.md``.

Values and defaults are those of the fields in ``spec``; the meaning is the text under a field.
"""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from packsweep.sweep import spec

_HEAD = """# Keys of a sweep file

Made from `src/packsweep/sweep/spec.py`. Every key is optional unless its default says *required*.
If you leave a key out, its default holds; where that is empty, the meaning says what happens. With
*yes* under *axis* a key takes one value or a list, and lists multiply
([SWEEP_FILE.md](SWEEP_FILE.md)); all other keys take one value. A
[`[[variant]]`](SWEEP_FILE.md#one-change-at-a-time) may change the keys of `[grid]`, `[online]` (not
`api_key_env`), `[engine]` (not `kind`), `[measure]` (not `isolation` and `order_seed`) and
`[simulated]`, and of `[texts]` only `max_tokens`, `keep` and `markup`.

An `[engine]` key without a meaning here is vLLM's argument of that name, such as `--max-num-seqs`
([its documentation](https://docs.vllm.ai/en/stable/configuration/engine_args/)); if it has no
default here, vLLM chooses one."""
_WORDS = {"int": "integer", "float": "number", "bool": "`true`, `false`", "str": "text"}
# Bounds beyond this only catch slips.
_LARGE = 1e6


def to_markdown() -> str:
    """Return ``docs/KEYS.md``."""
    meanings = _meanings()
    tables = {
        name: field.annotation
        for name, field in spec.Sweep.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, spec.Table)
    }
    top = _rows({"mode": spec.Sweep.model_fields["mode"]}, meanings["Sweep"])
    parts = [_HEAD, "## Top of the file", top]
    for name, table in tables.items():
        assert table is not None
        parts += [f"## `[{name}]`", _rows(table.model_fields, meanings[table.__name__])]
    return "\n\n".join(parts) + "\n"


def _meanings() -> dict[str, dict[str, str]]:
    """Return the text under each field, by table and key."""
    module = ast.parse(inspect.getsource(spec))
    return {
        node.name: dict(_under_fields(node)) for node in module.body if type(node) is ast.ClassDef
    }


def _under_fields(table: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(table.body, table.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            yield field.target.id, " ".join(str(text.value.value).split())


def _rows(fields: dict[str, FieldInfo], meanings: dict[str, str]) -> str:
    head = ["| key | values | axis | default | meaning |", "|---|---|---|---|---|"]
    lines = (
        f"| `{name}` | {_values(field)} | {'yes' if _is_axis(field) else ''} | {_default(field)} "
        f"| {meanings.get(name, '')} |"
        for name, field in fields.items()
    )
    return "\n".join([*head, *lines])


def _is_axis(field: FieldInfo) -> bool:
    return any(getattr(each, "func", None) is spec.as_tuple for each in field.metadata)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if _is_axis(field):
        value = value[0] if len(value) == 1 else value or None
    if value is None or value == {}:
        return ""
    return f"`{json.dumps(value)}`"


def _values(field: FieldInfo) -> str:
    """Say in words what a field takes; of an axis, each of its values."""
    kind: Any = field.annotation
    if get_origin(kind) is tuple:
        return _kind(get_args(kind)[0])
    return _kind(kind, tuple(field.metadata))


def _kind(kind: Any, bounds: tuple[Any, ...] = ()) -> str:  # noqa: ANN401  (an annotation)
    origin, members = get_origin(kind), get_args(kind)
    if origin is Annotated:
        own = members[1:]
        more = [each for info in own if isinstance(info, FieldInfo) for each in info.metadata]
        return _kind(members[0], (*bounds, *own, *more))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in members)
    if origin in {Union, types.UnionType}:
        (some,) = [each for each in members if each is not type(None)]
        return _kind(some, bounds)
    if origin is tuple:
        return "list of texts"
    if origin is dict:
        return "table of texts" if members[1] is str else "table of texts, numbers, `true`, `false`"
    return f"{_WORDS[kind.__name__]}{_within(bounds)}"


def _within(bounds: tuple[Any, ...]) -> str:
    """Return the bounds of a number in words, where they are not there for slips alone."""
    said = []
    for bound in bounds:
        for type_, name, word in (
            (Ge, "ge", "at least"),
            (Gt, "gt", "above"),
            (Le, "le", "at most"),
            (Lt, "lt", "below"),
        ):
            if isinstance(bound, type_) and abs(value := getattr(bound, name)) < _LARGE:
                said.append(f"{word} {value:g}")
    return f", {', '.join(said)}" if said else ""


if __name__ == "__main__":
    import sys

    sys.stdout.write(to_markdown())
