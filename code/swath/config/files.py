"""Config files: Python that binds ``config`` to a config class. They are code: run only those that you would run as a script."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

import pydantic
import pydantic.dataclasses

from swath.config import paths
from swath.config.classes import T
from swath.config.messages import explain
from swath.config.moved import MODULES
from swath.config.partials import check_factories
from swath.config.paths import absolute
from swath.config.resolved import resolve
from swath.errors import ConfigError, SwathError

# ---------------------------------------------------------------------------------------------------- loading


def load(path: str | Path, kind: type[T]) -> T:
    """Import the config file at `path` and return its ``config``.

    Raises ConfigError when the file is missing, does not bind ``config``, or binds something other than `kind`.
    """
    file = absolute(path)
    if not file.is_file():
        near = difflib.get_close_matches(
            file.name, [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else [], n=1
        )
        hint = f" Did you mean {near[0]}?" if near else ""
        what = "is a folder" if file.is_dir() else f"no such file (looked for {file})"
        raise ConfigError(f"config_path={path}: {what}. Name a config file, which ends in .py.{hint}")
    if file.suffix != ".py":
        raise ConfigError(f"config_path={path}: no Python file. Name a config file, which ends in .py.")
    config = getattr(_import_file(file), "config", None)
    if not isinstance(config, kind):
        found = "nothing" if config is None else type(config).__name__
        raise ConfigError(
            f"{file}: `config` must be a {kind.__name__}, found {found}. Bind `config = {kind.__name__}(...)`."
        )
    check_factories(config, file.name)
    try:
        resolve(config)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return config


def _import_file(file: Path) -> ModuleType:
    """Import under the dotted name from the project root, so that relative imports and pickling work."""
    try:
        if file.is_relative_to(paths.PROJECT_ROOT) and "." not in file.stem:
            if str(paths.PROJECT_ROOT) not in sys.path:
                sys.path.insert(0, str(paths.PROJECT_ROOT))
            return importlib.import_module(".".join(file.relative_to(paths.PROJECT_ROOT).with_suffix("").parts))
        name = f"swath_config_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except pydantic.ValidationError as error:
        raise ConfigError(f"{file}: {explain(error)}") from None
    except SwathError as error:
        raise ConfigError(f"{file}: {error}") from error
    except (Exception, SystemExit) as error:  # it is a program, and may fail as any other
        moved = MODULES.get(getattr(error, "name", None) or "")
        hint = f". {error.name} moved: import from {moved}, or see config/moved.py" if moved else ""  # type: ignore[union-attr]
        raise ConfigError(
            f"{file}: cannot be imported{_line_of(error, file)}: {type(error).__name__}: {error}{hint}"
        ) from error


def _line_of(error: BaseException, file: Path) -> str:
    """Where in a config file an error came up, as far as its traceback says."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f" (line {lines[-1]})" if lines else ""


def sources(config_path: str | Path) -> list[Path]:
    """The config file and the files that it imports from its challenge folders, for the reproduction bundle."""
    file = absolute(config_path)
    loaded = (getattr(m, "__file__", None) for n, m in list(sys.modules.items()) if n.startswith("configs."))
    return sorted({file, *(Path(f).resolve() for f in loaded if f)})
