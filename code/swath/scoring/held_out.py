"""Whether scenes may be scored: what they have in common with the training of a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import geopandas as gpd

from swath.data.leakage.leaks import Leak, LeakKind, kinds_of
from swath.data.leakage.scene_leaks import scene_leaks
from swath.data.tables import place
from swath.errors import LeakError
from swath.geo.raster import describe
from swath.scoring.pairs import Pairs

SCORED_ON = "swath.scored_on"
"""Tag of a run: ``held-out``, ``selection set`` or ``unchecked``; the last two stand in the run's name, too."""


class HeldOut(NamedTuple):
    """What scored scenes are to a model: whether they selected its weights, and which leaks were let pass."""

    selection_set: bool
    leaks: tuple[LeakKind, ...] = ()


def held_out_tags(name: str, selection_set: bool | None, leaks: Sequence[LeakKind] = ()) -> dict[str, str]:
    """Tags that say what a run was scored on; `selection_set` None means that nobody could tell."""
    if leaks:
        kinds = ", ".join(leaks)
        return {SCORED_ON: "leaking scenes", "swath.leaks": kinds, "mlflow.runName": f"{name} (leaks allowed)"}
    what = {True: "selection set", False: "held-out", None: "unchecked"}[selection_set]
    marked = {True: f"{name} (scored on the selection set)", False: name, None: f"{name} (ground unchecked)"}
    return {SCORED_ON: what, "mlflow.runName": marked[selection_set]}


def held_out_notes(selection_set: bool | None, reason: str = "", leaks: Sequence[LeakKind] = ()) -> list[str]:
    """The same as sentences for the report; `reason` says why nobody could tell."""
    if leaks:
        return [f"These scenes leak from the training of the model ({', '.join(leaks)}): the scores are flattered."]
    if selection_set is None:
        return [f"Whether these scenes trained the model was not checked: {reason}"]
    return ["These scenes selected the weights of the model: the scores are flattered."] if selection_set else []


def footprints_of(pairs: Pairs) -> gpd.GeoDataFrame:
    """Key, scene and ground of the paired rasters, for `require_fair`."""
    rows = [
        {"key": key, "scene": key.partition("/")[0], **place(describe(labels))}
        for key, (_, labels) in pairs.found.items()
    ]
    systems = {row.pop("geometry_crs") for row in rows}
    return gpd.GeoDataFrame(rows, geometry="geometry", crs=systems.pop() if len(systems) == 1 else None)


def require_scenes_held_out(
    scenes: gpd.GeoDataFrame,
    used: gpd.GeoDataFrame,
    allow_selection_set: bool,
    allow_leaks: bool | Collection[LeakKind] = False,
) -> HeldOut:
    """Check that scored scenes have nothing in common with the training: name, ground, area, and pixels where both
    tables know them (see `swath.data.leakage.scene_leaks.scene_leaks`).

    Raises LeakError when a scene trained the model, in ways that `allow_leaks` does not let pass, or selected its
    weights without `allow_selection_set`.
    """
    leaks = {side: scene_leaks(scenes, used[used["side"] == side]) for side in ("training", "validation")}
    refused = [leak for leak in leaks["training"] if allow_leaks is not True and leak.kind not in (allow_leaks or ())]
    if refused:
        raise LeakError(
            f"{_named(refused)}: trained this model, so a score on it says nothing. Score other scenes, or leave labels_path "
            "out; with allow_leaks inference goes on and marks its run."
        )
    if leaks["validation"] and not allow_selection_set:
        raise LeakError(
            f"{_named(leaks['validation'])}: selected the weights of this model, so a score on it is flattered. "
            "Score other scenes, or set allow_selection_set=True: the run is then marked."
        )
    return HeldOut(bool(leaks["validation"]), kinds_of(leaks["training"]))


def _named(leaks: Sequence[Leak]) -> str:
    """Scenes with the ways in which they leak: ``scene_a (same scene, shared ground), ...``, at most five."""
    ways: dict[str, list[str]] = {}
    for leak in leaks:
        if leak.kind not in ways.setdefault(leak.b, []):
            ways[leak.b].append(leak.kind)
    return ", ".join(f"{key} ({', '.join(kinds)})" for key, kinds in list(ways.items())[:5])
