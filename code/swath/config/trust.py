"""What a record may have built: JSON that came with a model, from a run or a folder, and that nobody has read as code.

Config files are code, and the person who starts one trusts it. A record names classes in the same way, but comes with
weights from elsewhere, so it builds networks, channels, normalisers, losses and tasks of known modules, and nothing else.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swath.config import paths
from swath.config.moved import new_name
from swath.config.partials import locate
from swath.config.resolved import TARGET, build
from swath.errors import ConfigError

LIBRARIES = ("torch.nn", "torchvision.models", "segmentation_models_pytorch", "timm")
"""Libraries of whose modules a record may name subclasses of torch.nn.Module: their functions download and load files."""

OWN = ("swath.nn", "swath.challenges", "swath.geo.zones", "swath.geo.scene_bands", "swath.geo.conditions")
"""Modules of swath whose networks, tasks and settings a record may name; and code/ and configs/ of the project, where
they are not swath's."""

FUNCTIONS = ("swath.nn.losses",)
"""Modules of swath whose functions make a part of a model."""

FETCHING = ("cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
"""Arguments by which a library downloads or opens other files than those of the record."""

PLACES = ":/\\"
"""Signs of a path, of a URL, or of a model elsewhere such as ``tu-hf-hub:owner/name``: in no argument of a library."""


def build_from_record(resolved: Any, trust: Sequence[str] = ()) -> Any:
    """`swath.config.build` for JSON data of a record: objects of known modules, and of those that `trust` names.

    `trust`: dotted names of modules; each stands for the modules below it, too. Raises ConfigError that names what is
    refused and what to type, before anything of it is imported.
    """
    _refuse_fetching(resolved, trust)
    return build(resolved, partial(_locate_trusted, trust=tuple(trust)))


def _below(module: str, known: Sequence[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in known)


def _locate_trusted(name: Any, trust: tuple[str, ...]) -> Any:
    """What ``module:Class`` names, if a record may name it. The module is looked at first: an import runs it."""
    if not isinstance(name, str):
        raise ConfigError(f"{name!r}: names no class. Write it as `module:Class`.")
    module = new_name(name).partition(":")[0]
    if not (_below(module, (*LIBRARIES, *OWN, *trust)) or _is_of_project(module)):
        raise _refused(name, module, "its module is none that a record may name")
    found = locate(name)
    home = getattr(found, "__module__", None) or type(found).__module__
    if not isinstance(home, str) or not (inspect.isclass(found) or inspect.isroutine(found)):
        raise ConfigError(f"{name}: is {type(found).__name__}, no class or function.")
    if _below(home, trust):
        return found
    if not _makes_parts(found, home):
        kind = "function" if inspect.isroutine(found) else "class"
        raise _refused(name, home, f"a {kind} of {home} that makes no network, loss, channels or task")
    return found


def _makes_parts(found: Any, home: str) -> bool:
    """Whether config files use such a class or function for a part of a model; the object's own module decides."""
    from torch import nn  # whoever reads a record has it; config files of other steps do without

    own = _below(home, OWN)
    project = not own and _is_of_project(home)
    if inspect.isclass(found):
        is_setting = dataclasses.is_dataclass(found) and (own or project)
        return is_setting or (issubclass(found, nn.Module) and (own or project or _below(home, LIBRARIES)))
    return inspect.isfunction(found) and "." not in found.__qualname__ and (project or _below(home, FUNCTIONS))


def _is_of_project(module: str) -> bool:
    """Whether a module other than swath's lies in code/ or configs/ of the project; nothing is imported to know it.

    Scripts of entry points are no parts of models.
    """
    top = module.partition(".")[0]
    if top == "swath" or not top.isidentifier():
        return False
    try:
        spec = find_spec(top)
    except ValueError:  # __main__
        return False
    if spec is None:
        return False
    places = list(spec.submodule_search_locations or [spec.origin or ""])
    homes = [paths.PROJECT_ROOT / "code", paths.PROJECT_ROOT / "configs"]
    inside = [any(Path(place).resolve().is_relative_to(home) for home in homes) for place in places]
    return bool(inside) and all(inside)


def _refused(name: str, module: str, why: str) -> ConfigError:
    return ConfigError(
        f"{name} is not built: {why}. Where you know who made the record, and that {module} is harmless, "
        f"add -P trust={module} (--trust {module})."
    )


def _refuse_fetching(resolved: Any, trust: Sequence[str], target: str = "") -> None:
    """Refuse arguments by which a library would fetch or open other files, such as weights that are pickles.

    `target`: what the arguments are for, ``module:Class``.
    """
    if isinstance(resolved, Mapping):
        target = str(resolved.get(TARGET, target))
        for name, value in resolved.items():
            if name != TARGET:
                _refuse_argument(str(name), value, trust, target)
                _refuse_fetching(value, trust, target)
    elif isinstance(resolved, list):
        for value in resolved:
            _refuse_argument("an element", value, trust, target)
            _refuse_fetching(value, trust, target)


def _refuse_argument(name: str, value: Any, trust: Sequence[str], target: str) -> None:
    module = target.partition(":")[0]
    is_place = isinstance(value, str) and _below(module, LIBRARIES) and any(sign in value for sign in PLACES)
    if not _below(module, trust) and (is_place or (name in FETCHING and value)):
        raise _refused(f"{target} with {name}={value!r}", module, "it would fetch or open other files")
