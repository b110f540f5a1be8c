"""``--help`` of an entry point, read from its source: nothing heavy is imported, so it answers at once.

A script says ``from_command_line(XConfig)`` or ``preparation(XConfig)``; the class is followed through imports to its source, where fields, types,
defaults and the docstrings below them stand. Imports nothing of the project.
"""

from __future__ import annotations

import ast
import os
import re
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
HINT = (
    "Set any field with --field value (-P field=value under mlflow run), parts of a partial(...) by their names, too:"
)
WIDTH = 90
_RANGES = {
    "Count": "int >= 0", "PositiveCount": "int >= 1", "Pixels": "int 1..65536", "Amount": "float >= 0", "Share": "float 0..1",
}  # fmt: skip
"""Types of `swath.config.ranges` as text."""


def answer(script: str, argv: Sequence[str] | None = None) -> None:
    """Print the help of a script and exit, when its command line asks for it; called before its slow imports."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        say(page(Path(script), _config_path(arguments)))
        raise SystemExit(0)


def say(text: str) -> None:
    """Print, also where nobody reads to the end, as in ``--help | head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        write_nowhere()


def reader_has_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file, as under tests
        return False
    pipe = select.poll()
    pipe.register(number, 0)  # what is wrong with it is told in any case
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))


def write_nowhere() -> None:
    """Let standard output lead nowhere: Python writes what is left at its exit, and would end with a traceback there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def page(script: Path, config: Path | None = None) -> str:
    """What a script is for, and a line per parameter: name, type, default (or the value in `config`) and meaning."""
    tree = _parsed(script)
    kind = _class_named(script, _config_class(tree))
    kind = (_class_bound(config) if config else None) or kind  # a challenge's own class says more
    given = _given(config) if config else {}
    lines = ["config_path  str [required]", "      Config file, from the project root."] if not config else []
    shown = f"Values of {config.name}." if config else "Defaults; those of a config file with --config_path <file>."
    intro = [ast.get_docstring(tree) or "", "", HINT, shown, ""]
    return "\n".join(
        [*intro, *(f"  --{line}" if i == 0 else line for i, line in enumerate(lines)), *_listed(kind, given)]
    )


def class_help(module: str, name: str) -> str:
    """The parameters of one config class by module and name."""
    kind = _class_named(_file_of(module), name)
    return "\n".join([ast.get_docstring(kind.node) or "", "", HINT, *_listed(kind, {})])


@dataclass(frozen=True)
class _Class:
    """A class in a source file."""

    file: Path
    node: ast.ClassDef


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _config_path(arguments: Sequence[str]) -> Path | None:
    for i, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        if name == "--config_path":
            path = CODE.parent / Path(value if equals else "".join(arguments[i + 1 : i + 2])).expanduser()
            return path if path.is_file() else None
    return None


def _config_class(tree: ast.Module) -> str:
    """The argument of ``from_command_line`` or, in the script of a preparation step, of ``preparation``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("from_command_line", "preparation"):
                return node.args[0].id
    raise LookupError("the script names no config class")


# ------------------------------------------------------------------------------------------------------ names to sources


def _file_of(module: str) -> Path:
    base = CODE.joinpath(*module.split("."))
    return base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"


def _find(file: Path, name: str) -> tuple[Path, ast.stmt] | None:
    """Where a module's global is bound: a class, or an assignment; followed through imports inside the project."""
    if not file.is_file():
        return None
    for node in _parsed(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return file, node
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return file, node
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module.startswith("swath"):
                    return _find(_file_of(node.module), alias.name)
    return None


def _class_named(file: Path, name: str) -> _Class:
    found = _find(file, name)
    if found is None or not isinstance(found[1], ast.ClassDef):
        raise LookupError(f"{file}: no class {name}")
    return _Class(found[0], found[1])


def _configs_in(file: Path, annotation: ast.expr) -> Iterator[_Class]:
    """The config classes that a type names: itself, or any of a union, or of an alias of one."""
    for node in ast.walk(annotation):
        found = _find(file, node.id) if isinstance(node, ast.Name) else None
        if found is None:
            continue
        where, bound = found
        if isinstance(bound, ast.ClassDef):
            if any("configclass" in ast.unparse(d) or "dataclass" in ast.unparse(d) for d in bound.decorator_list):
                yield _Class(where, bound)
        elif isinstance(bound, ast.Assign):
            yield from _configs_in(where, bound.value)


# ------------------------------------------------------------------------------------------------------------- fields


@dataclass(frozen=True)
class _Field:
    """A field as it stands in the source."""

    file: Path
    name: str
    annotation: ast.expr
    default: str
    meaning: str


def _fields(kind: _Class) -> dict[str, _Field]:
    """Own fields first, then inherited ones."""
    own: dict[str, _Field] = {}
    body = kind.node.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        is_field = isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar")
        if is_field and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ast.unparse(node.value) if node.value else "required"
            own[node.target.id] = _Field(kind.file, node.target.id, node.annotation, text, _text(after))
    for base in kind.node.bases:
        if isinstance(base, ast.Name) and (found := _find(kind.file, base.id)) and isinstance(found[1], ast.ClassDef):
            own = own | {n: f for n, f in _fields(_Class(found[0], found[1])).items() if n not in own}
    return own


def _type_shown(annotation: ast.expr) -> str:
    """A type as text, without what it says of the field's role (`swath.config.roles`)."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "NotDecisive":
        annotation = annotation.slice
    shown = re.sub(r"\b(InputPath|OutputPath)\b", "path", ast.unparse(annotation))
    return re.sub(r"\b(PositiveCount|Count|Pixels|Amount|Share)\b", lambda found: _RANGES[found[0]], shown)


def _text(node: ast.stmt | None) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return " ".join(node.value.value.split()) if is_text else ""  # type: ignore[union-attr]


def _listed(kind: _Class, given: Mapping[str, ast.expr], prefix: str = "", of: str = "") -> Iterator[str]:
    for field in _fields(kind).values():
        value = given.get(field.name)
        shown = ast.unparse(value) if value is not None else field.default
        short = shown if len(shown) <= WIDTH else shown[: WIDTH - 3] + "..."
        yield f"  --{prefix}{field.name}  {_type_shown(field.annotation)} [{short}]{of}"
        if field.meaning:
            yield f"        {field.meaning}"
        parts = list(_configs_in(field.file, field.annotation))
        inside = _keywords(value) if isinstance(value, ast.Call) else {}
        for part in parts:
            note = f" ({part.node.name})" if len(parts) > 1 else ""
            values = inside if isinstance(value, ast.Call) and ast.unparse(value.func) == part.node.name else {}
            yield from _listed(part, values, f"{prefix}{field.name}.", note)


# -------------------------------------------------------------------------------------------------------- config files


def _keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in call.keywords if k.arg is not None}


def _class_bound(config: Path) -> _Class | None:
    """The class of what a config file binds, which it may have from another file through ``replace(base, ...)``."""
    bound = _find(config, "config")
    call = bound[1].value if bound and isinstance(bound[1], ast.Assign) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    if call.args and isinstance(call.args[0], ast.Name) and (below := _imported(config, call.args[0].id)):
        return _class_bound(below)
    found = _find(config, call.func.id)
    return _Class(found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None


def _given(config: Path) -> dict[str, ast.expr]:
    """Field to expression of ``config = XConfig(...)``, or of ``replace(base, ...)`` over what the base gives."""
    bound = _find(config, "config")
    call = bound[1].value if bound and isinstance(bound[1], ast.Assign) else None
    if not isinstance(call, ast.Call):
        return {}
    base = call.args[0].id if call.args and isinstance(call.args[0], ast.Name) else None
    below = _imported(config, base) if base else None
    return (_given(below) if below else {}) | _keywords(call)


def _imported(config: Path, name: str) -> Path | None:
    """The file of ``from .file import config as name``, or of its absolute form."""
    for node in _parsed(config).body:
        if isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names):
            root = config.parents[node.level - 1] if node.level else CODE.parent
            path = root.joinpath(*(node.module or "").split(".")).with_suffix(".py")
            return path if path.is_file() else None
    return None
