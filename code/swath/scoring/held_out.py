"""Whether scenes may be scored: what they have in common with the training of a model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import geopandas as gpd

from swath.data.leakage.leaks import Leak, LeakKind, kinds_of
from swath.data.leakage.scene_leaks import scene_leaks
from swath.data.tables import place
from swath.errors import LeakError
from swath.geo.raster import describe
from swath.scoring.pairs import Pairs

SCORED_ON = "swath.scored_on"
"""Tag of a run: ``held-out``, ``selection set`` or ``unchecked``; the last two stand in the run's name, too."""


@dataclass(frozen=True)
class HeldOutCheck:
    """What scored scenes are to the models that predicted them: the one answer to whether they may be scored."""

    selection_set: bool | None = False
    """Whether they selected a model's weights; None when nobody can tell, or whether they trained it."""
    leaks: tuple[LeakKind, ...] = ()
    """Kinds of leaks from the training that were let pass."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the scores must know."""

    def joined(self, other: HeldOutCheck) -> HeldOutCheck:
        """Of both together: nobody can tell of all when nobody can tell of some."""
        unknown = self.selection_set is None or other.selection_set is None
        selection_set = None if unknown else self.selection_set or other.selection_set
        leaks = tuple(dict.fromkeys(self.leaks + other.leaks))
        return HeldOutCheck(selection_set, leaks, self.notes + other.notes)

    def tags(self, name: str) -> dict[str, str]:
        """Tags that say what a run of this name was scored on."""
        if self.leaks:
            kinds = ", ".join(self.leaks)
            return {SCORED_ON: "leaking scenes", "swath.leaks": kinds, "mlflow.runName": f"{name} (leaks allowed)"}
        what = {True: "selection set", False: "held-out", None: "unchecked"}[self.selection_set]
        remark = {True: " (scored on the selection set)", False: "", None: " (ground unchecked)"}[self.selection_set]
        return {SCORED_ON: what, "mlflow.runName": f"{name}{remark}"}


def unchecked(reason: str) -> HeldOutCheck:
    """The check of scenes of which nobody can tell; `reason` says why."""
    return HeldOutCheck(None, notes=(f"Whether these scenes trained the model was not checked: {reason}",))


def footprints_of(pairs: Pairs) -> gpd.GeoDataFrame:
    """Key, scene and ground of the paired rasters, for `require_held_out`."""
    rows = [
        {"key": key, "scene": key.partition("/")[0], **place(describe(labels))}
        for key, (_, labels) in pairs.found.items()
    ]
    systems = {row.pop("geometry_crs") for row in rows}
    return gpd.GeoDataFrame(rows, geometry="geometry", crs=systems.pop() if len(systems) == 1 else None)


_GO_ON = ", or predict without labels_path; -P allow_leaks=True goes on and marks the run."
_ONLY_INFERENCE = (
    "; only `inference` scores these, with -P labels_path=<their labels> -P allow_leaks=True, and marks its run."
)


def require_held_out(
    scenes: gpd.GeoDataFrame,
    used: gpd.GeoDataFrame,
    allow_selection_set: bool,
    allow_leaks: bool | Collection[LeakKind] | None = None,
) -> HeldOutCheck:
    """Check that scored scenes have nothing in common with the training: name, ground, area, and pixels where both
    tables know them (see `swath.data.leakage.scene_leaks.scene_leaks`). `used` are the tiles of the training by side.

    Raises LeakError when a scene trained the model, in ways that `allow_leaks` does not let pass (None: the step has no
    such field), or selected its weights without `allow_selection_set`.
    """
    leaks = {side: scene_leaks(scenes, used[used["side"] == side]) for side in ("training", "validation")}
    refused = [leak for leak in leaks["training"] if allow_leaks is not True and leak.kind not in (allow_leaks or ())]
    if refused:
        raise LeakError(
            f"{_named(refused)}: trained this model, so a score on it says nothing. Score other scenes"
            + (_ONLY_INFERENCE if allow_leaks is None else _GO_ON)
        )
    if leaks["validation"] and not allow_selection_set:
        raise LeakError(
            f"{_named(leaks['validation'])}: selected the weights of this model, so a score on it is flattered. "
            "Score other scenes, or go on with -P allow_selection_set=True: the run is then marked."
        )
    kinds = kinds_of(leaks["training"])
    return HeldOutCheck(bool(leaks["validation"]), kinds, tuple(_remarks(bool(leaks["validation"]), kinds)))


def _remarks(selection_set: bool, leaks: Sequence[LeakKind]) -> Iterator[str]:
    if leaks:
        yield f"These scenes leak from the training of the model ({', '.join(leaks)}): the scores are flattered."
    elif selection_set:
        yield "These scenes selected the weights of the model: the scores are flattered."


def _named(leaks: Sequence[Leak]) -> str:
    """Scenes with the ways in which they leak: ``scene_a (same scene, shared ground), ...``, at most five."""
    ways: dict[str, list[str]] = {}
    for leak in leaks:
        if leak.kind not in ways.setdefault(leak.b, []):
            ways[leak.b].append(leak.kind)
    return ", ".join(f"{key} ({', '.join(kinds)})" for key, kinds in list(ways.items())[:5])
