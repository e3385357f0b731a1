"""One file out of a module and of what it takes from this package.

Every ``from packsweep.x import name`` is replaced by the source of what it names, and of what that
needs in turn, so that the file runs where packsweep is not installed and does what packsweep does.
Classes in annotations alone are left out: nothing evaluates them.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class _Module:
    """A module's source, and what its names are.

    Attributes:
        definitions: name -> the statement at the top level that makes it.
        taken: name -> (module, name there), from this package.
        imports: name -> the line that imports it, from elsewhere.
    """

    name: str
    source: str
    body: list[ast.stmt]
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    taken: dict[str, tuple[str, str]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)

    def is_plain(self, name: str) -> bool:
        """Return whether ``name`` needs little else: an import from elsewhere, or an assignment."""
        if name in self.taken:
            module, original = self.taken[name]
            return _read(module).is_plain(original)
        return name in self.imports or isinstance(self.definitions.get(name), ast.Assign)

    def segment(self, statement: ast.stmt) -> str:
        """Return a statement as it is written, its decorators and the comment above with it."""
        lines = self.source.splitlines()
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(each.lineno for each in decorators)]) - 1
        while first and lines[first - 1].startswith("#"):
            first -= 1
        return "\n".join(lines[first : statement.end_lineno])


def bundle(module: str) -> str:
    """Return the source of ``module`` with what it takes from this package written into it."""
    own = _read(module)
    parts = _Parts()
    for name, origin in own.taken.items():
        parts.add(*origin, wanted=name)
    lines = own.source.splitlines()
    placed = False
    for statement in reversed(own.body):
        if isinstance(statement, ast.ImportFrom) and _is_own(statement.module):
            lines[statement.lineno - 1 : statement.end_lineno] = [] if placed else ["# <here>"]
            placed = True
    text = "\n".join(lines)
    inserted = "\n".join([*parts.import_lines(own), "\n", *parts.segments])
    return re.sub(r"^# <here>$", lambda _: inserted, text, count=1, flags=re.MULTILINE) + "\n"


class _Parts:
    """The statements taken so far, each after those that it needs."""

    def __init__(self) -> None:
        """Start with none."""
        self.segments: list[str] = []
        self._imports: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}

    def add(self, module: str, name: str, *, wanted: str | None = None) -> str:
        """Take what ``name`` is in ``module``; return the name that it has in the file."""
        source = _read(module)
        if name in source.taken:
            return self.add(*source.taken[name], wanted=wanted)
        if (module, name) in self._names:
            return self._names[module, name]
        if name not in source.definitions:
            raise ValueError(f"{module}.{name} cannot be written into one file")
        new = wanted or name
        if new in self._names.values():
            new = f"_{module.rpartition('.')[2]}{name if name.startswith('_') else '_' + name}"
        self._names[module, name] = new
        self._take(source, name)
        return new

    def import_lines(self, into: _Module) -> Iterator[str]:
        """Yield the imports from elsewhere that ``into`` does not have."""
        for name, line in sorted(self._imports.items(), key=lambda item: item[1]):
            if into.imports.get(name) != line:
                yield line

    def _take(self, source: _Module, name: str) -> None:
        statement = source.definitions[name]
        text = source.segment(statement)
        renamed = {name: self._names[source.name, name]}
        used, annotated = _names_used(statement)
        for needed in [*used, *filter(source.is_plain, annotated)]:
            if needed in source.imports:
                self._imports[needed] = source.imports[needed]
            elif needed in source.definitions or needed in source.taken:
                renamed[needed] = self.add(source.name, needed)
        for old, new in renamed.items():
            if old != new:
                text = re.sub(rf"(?<![\w.]){old}\b", new, text)
        self.segments.append(text + "\n\n")


def _is_own(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == _PACKAGE


@cache
def _read(module: str) -> _Module:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).read_text(encoding="utf-8")
    made = _Module(module, source, ast.parse(source).body)
    for statement in made.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _note_import(made, statement)
        else:
            made.definitions.update(dict.fromkeys(_defined(statement), statement))
    return made


def _note_import(module: _Module, statement: ast.Import | ast.ImportFrom) -> None:
    origin = statement.module if isinstance(statement, ast.ImportFrom) else None
    for alias in statement.names:
        name = alias.asname or alias.name
        if origin == "__future__":
            continue
        if origin is not None and _is_own(origin):
            module.taken[name] = (origin, alias.name)
        else:
            renamed = f" as {alias.asname}" if alias.asname else ""
            line = f"import {alias.name}{renamed}"
            module.imports[name] = line if origin is None else f"from {origin} {line}"


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (
            node.id
            for target in statement.targets
            for node in ast.walk(target)
            if isinstance(node, ast.Name)
        )
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


class _WithoutAnnotations(ast.NodeTransformer):
    """Leaves out what nothing evaluates, and keeps its names."""

    def __init__(self) -> None:
        """Start with no names."""
        self.names: set[str] = set()

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self._note(node.annotation)
        return ast.arg(arg=node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._note(node.returns)
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self._note(node.annotation)
        if node.value is None:
            return ast.Pass()
        assigned = ast.Assign(targets=[node.target], value=node.value, lineno=node.lineno)
        return self.generic_visit(assigned)

    def _note(self, annotation: ast.expr | None) -> None:
        if annotation is not None:
            found = (node.id for node in ast.walk(annotation) if isinstance(node, ast.Name))
            self.names.update(found)


def _names_used(statement: ast.stmt) -> tuple[list[str], list[str]]:
    """Return the module's names that running ``statement`` looks up, and those of annotations."""
    annotations = _WithoutAnnotations()
    plain = ast.fix_missing_locations(annotations.visit(copy.deepcopy(statement)))
    table = symtable.symtable(ast.unparse(plain), "<part>", "exec")
    return sorted(_globals(table)), sorted(annotations.names)


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)
