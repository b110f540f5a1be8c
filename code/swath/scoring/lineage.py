"""Which training runs a folder of predictions goes back to: from the settings that every step leaves beside its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd

from swath.config import absolute, relative
from swath.config.json_files import Shape, check_shape
from swath.config.paths import is_pattern, places
from swath.errors import ConfigError, StepError, TrackingError
from swath.scoring.decisions import require_not_tuned
from swath.scoring.held_out import HeldOutCheck, footprints_of, require_held_out, unchecked
from swath.scoring.pairs import Pairs
from swath.steps.ledger import read_settings

Kind = Literal["classes", "probabilities"]
PRODUCTS: tuple[Kind, ...] = ("classes", "probabilities")
"""Folders below the output of inference, ensemble and postprocess."""


def prediction_folder(text: str | Path, kind: Kind, field: str) -> Path:
    """A folder of predictions: of a step's output its folder `kind`, another one as it is.

    Raises ConfigError, in the name of the config's `field`, when there is no such folder.
    """
    path = absolute(text)
    if not path.is_dir():
        raise ConfigError(f"{field}={relative(path)}: no folder {path}. Name a folder of predictions.")
    return path / kind if (path / kind).is_dir() else path


def prediction_folders(text: str, kind: Kind, field: str) -> list[Path]:
    """The folders of a text like ``output/a;output/b``, or of a pattern like ``output/folds/*``.

    Raises ConfigError when there is none, or one stands twice.
    """
    found = [prediction_folder(place, kind, field) for place in places(text)]
    twice = sorted({relative(path) for path in found if found.count(path) > 1})
    nothing = "no folder matches" if is_pattern(text) else "no folder"
    if twice or not found:
        fault = f"{', '.join(twice)} is named twice" if twice else nothing
        raise ConfigError(f"{field}={text}: {fault}. Name folders of predictions, joined by ';', or a pattern of them.")
    return found


def require_elsewhere(output: Path, folders: Iterable[Path]) -> None:
    """Raise ConfigError when a step would write over the predictions that it reads."""
    same = [str(folder) for folder in folders if output in (folder, folder.parent)]
    if same:
        raise ConfigError(f"output_path={output}: {same[0]} is read from there. Choose another output_path.")


@dataclass(frozen=True)
class Origin:
    """The training runs behind a folder of predictions, and the folders below it that do not say where they are from."""

    run_ids: frozenset[str]
    unknown: tuple[Path, ...]
    tuned_on: frozenset[str] = frozenset()
    """Keys of the scenes that a threshold on the way was searched on."""


class _Lineage(Shape):
    """Settings that say what predictions were made from."""

    run_id: str | None = None
    input_path: str | None = None
    input_paths: str | None = None
    tuned_on: list[str] | None = None


def _settings(path: Path) -> dict[str, Any]:
    """Settings and inputs of the step that left this file."""
    record = read_settings(path)
    found = record["settings"] | record.get("sources", {})
    check_shape(found, _Lineage, StepError, str(path), "Delete it, and make the predictions again.")
    return found


def origin_of(folder: Path, asked: frozenset[Path] = frozenset()) -> Origin:
    """Follow the settings of inference, ensemble, postprocess and the like back to training runs; once per folder."""
    home = folder.parent if folder.name in PRODUCTS else folder
    found = [_settings(path) for path in sorted(home.glob("*.settings.json"))]
    own = frozenset(settings["run_id"] for settings in found if settings.get("run_id"))
    made = [settings for settings in found if not settings.get("run_id")]  # the inputs of inference are scenes
    given = [p for s in made for p in (s.get("input_paths") or s.get("input_path") or "").split(";") if p]
    sources = [absolute(path) for path in given]
    before = [origin_of(path, asked | {home}) for path in sources if path not in asked | {home, home / folder.name}]
    tuned_on = frozenset(key for settings in found for key in settings.get("tuned_on") or ())
    tuned_on = tuned_on.union(*(o.tuned_on for o in before))
    if not own and not before:
        return Origin(frozenset(), (folder,), tuned_on)
    unknown = tuple(u for o in before for u in o.unknown)
    return Origin(own.union(*(o.run_ids for o in before)), unknown, tuned_on)


def check_predictions(
    folder: Path, pairs: Pairs, tiles_of: Callable[[str], gpd.GeoDataFrame], allow_selection_set: bool,
    run_id: str | None = None,
) -> HeldOutCheck:  # fmt: skip
    """Check that no training run behind a folder of predictions was trained on the paired scenes.

    ``tiles_of(run_id)`` gives the tiles that a run used. `run_id` says which run it is, where the folder does not; then a
    run that cannot be read is an error, else it is a note. Raises LeakError as `require_held_out` does.
    """
    ground, origin = footprints_of(pairs), origin_of(folder)
    found = require_not_tuned(pairs.found, origin.tuned_on, allow_selection_set)
    if run_id:
        return found.joined(require_held_out(ground, tiles_of(run_id), allow_selection_set))
    for source in origin.unknown:
        found = found.joined(unchecked(f"{relative(source)} does not say which training run it is of"))
    for training in sorted(origin.run_ids):
        try:
            one = require_held_out(ground, tiles_of(training), allow_selection_set)
        except TrackingError as error:
            one = unchecked(str(error))
        found = found.joined(replace(one, notes=tuple(f"{relative(folder)}: {note}" for note in one.notes)))
    return found


def check_all_predictions(
    paired: Mapping[Path, Pairs], tiles_of: Callable[[str], gpd.GeoDataFrame], allow_selection_set: bool
) -> HeldOutCheck:
    """`check_predictions` of several folders together."""
    checks = [check_predictions(folder, pairs, tiles_of, allow_selection_set) for folder, pairs in paired.items()]
    return reduce(HeldOutCheck.joined, checks, HeldOutCheck())
