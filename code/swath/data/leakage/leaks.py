"""Leaks: ways in which training knows what evaluation asks. Found, named and refused before training and scoring."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.data.leakage.fingerprints import COLUMNS, CONTENT, thumbnails
from swath.data.leakage.footprints import BOUNDS, TOLERANCE, apart, extents, overlaps, scenes_of
from swath.data.leakage.groups import NEAR_DUPLICATE, best_matches
from swath.errors import LeakError

log = logging.getLogger("swath.data")

LeakKind = Literal["same tile", "same scene", "same content", "shared ground", "near-duplicate", "same area"]

KINDS: tuple[LeakKind, ...] = get_args(LeakKind)
"""All kinds, the plainest first."""

_SAYS: dict[LeakKind, str] = {
    "same tile": "are the same tile",
    "same scene": "are scenes that trained",
    "same content": "hold the same pixels under another name",
    "shared ground": "share ground",
    "near-duplicate": "look nearly the same",
    "same area": "show an area that trained in another scene",
}


@dataclass(frozen=True, order=True)
class Leak:
    """`b` of the evaluation leaks from `a` of the training: the keys of two tiles or scenes, and how much they share."""

    kind: LeakKind
    a: str
    b: str
    detail: str = ""


def require_disjoint(
    train: gpd.GeoDataFrame,
    evaluation: gpd.GeoDataFrame,
    allow: bool | Collection[LeakKind] = False,
    tolerance: float = TOLERANCE,
    similarity: float = NEAR_DUPLICATE,
) -> tuple[LeakKind, ...]:
    """Check that training and evaluation have nothing in common; return the kinds of leaks that `allow` lets pass.

    The caller marks its run with them. Raises LeakError with counts by kind, the first pairs and the remedy.
    """
    leaks = find_leaks(train, evaluation, tolerance, similarity)
    refused = leaks if allow is False else [] if allow is True else [leak for leak in leaks if leak.kind not in allow]
    if refused:
        raise LeakError(refusal(refused, len(evaluation)))
    return kinds_of(leaks)


def kinds_of(leaks: Sequence[Leak]) -> tuple[LeakKind, ...]:
    """The kinds that occur, the plainest first."""
    return tuple(kind for kind in KINDS if any(leak.kind == kind for leak in leaks))


def refusal(leaks: Sequence[Leak], count: int) -> str:
    """What a person reads: how many of `count` evaluation tiles leak, in which ways, which ones, what to do."""
    parts = []
    for kind in kinds_of(leaks):
        some = [leak for leak in leaks if leak.kind == kind]
        pairs = "; ".join(f"{leak.b} with {leak.a}{leak.detail and f' ({leak.detail})'}" for leak in some[:3])
        more = f"; and {len(some) - 3} more" if len(some) > 3 else ""
        parts.append(f"{len(some)} {_SAYS[kind]} ({kind}): {pairs}{more}.")
    return (
        f"{len({leak.b for leak in leaks})} of {count} evaluation tiles or scenes leak from the training, so a score on "
        f"them would be flattered. {' '.join(parts)} Take copies out; hold out whole areas, or folds of groups "
        "(`folds` and `grouping` of generate_tiles_stats); or go on with -P data.allow_leaks=True: the run is then marked."
    )


def find_leaks(
    train: gpd.GeoDataFrame,
    evaluation: gpd.GeoDataFrame,
    tolerance: float = TOLERANCE,
    similarity: float = NEAR_DUPLICATE,
) -> list[Leak]:
    """Per kind, each row of `evaluation` (tiles, or whole scenes) that leaks, with its closest partner.

    Tiles are compared by key, by footprint (`tolerance`: see `shared_ground`), by area, and by fingerprints where both
    tables hold them (`similarity`: cosine of thumbnails). A pair is named once, under its plainest kind.
    """
    if train.empty or evaluation.empty:
        return []
    printed = all(column in frame for column in COLUMNS for frame in (train, evaluation))
    if not printed and not whole_scenes(evaluation).all():
        log.warning("contents are not compared: a table has no fingerprints. Run `generate_tiles_stats` again.")
    found: dict[tuple[str, str], Leak] = {}
    for leak in (
        *_same_name(train, evaluation), *_same_content(train, evaluation), *_shared_ground(train, evaluation, tolerance),
        *_near_duplicates(train, evaluation, similarity), *_same_area(train, evaluation),
    ):  # fmt: skip
        found.setdefault((leak.a, leak.b), leak)
    return list(found.values())


def find_copies(
    train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame, similarity: float = NEAR_DUPLICATE
) -> list[Leak]:
    """As `find_leaks`, by fingerprints only: rows of `evaluation` may be mere windows of scenes."""
    found = {(leak.a, leak.b): leak for leak in _near_duplicates(train, evaluation, similarity)}
    return list((found | {(leak.a, leak.b): leak for leak in _same_content(train, evaluation)}).values())


# ------------------------------------------------------------------------------------------------------------- kinds


def whole_scenes(frame: gpd.GeoDataFrame) -> pd.Series:
    """Which rows are scenes rather than tiles of one: they are called as their scene."""
    return scenes_of(frame) == frame["key"]


def _same_name(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame) -> Iterator[Leak]:
    keys, whole = evaluation["key"], whole_scenes(evaluation)
    yield from (Leak("same tile", key, key) for key in keys[_among(keys, train["key"])])
    yield from (Leak("same scene", key, key) for key in keys[whole & _among(keys, scenes_of(train))])


def _among(names: pd.Series, known: Iterable[str]) -> NDArray[np.bool_]:
    """As names.isin(known), which takes ten times as long on a million names."""
    there = set(np.asarray(known))
    return np.array([name in there for name in names.to_numpy()], bool)


def _same_content(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame) -> Iterator[Leak]:
    if CONTENT not in train or CONTENT not in evaluation:
        return
    known = train[train[CONTENT].notna()].drop_duplicates(CONTENT).set_index(CONTENT)["key"]
    theirs = evaluation[_among(evaluation[CONTENT], known.index)]
    yield from (
        Leak("same content", known[content], key, content[:8])
        for key, content in zip(theirs["key"], theirs[CONTENT], strict=True)
    )


def _shared_ground(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame, tolerance: float) -> Iterator[Leak]:
    i, j, share = overlaps(train, evaluation, tolerance)
    most = pd.DataFrame({"i": i, "j": j, "share": share}).sort_values(["j", "share"]).drop_duplicates("j", keep="last")
    ours, theirs = train["key"].to_numpy(), evaluation["key"].to_numpy()
    for row in most.itertuples(index=False):
        yield Leak("shared ground", ours[row.i], theirs[row.j], f"{row.share:.0%} of the smaller footprint")


def _near_duplicates(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame, similarity: float) -> Iterator[Leak]:
    (at, ours), (where, theirs) = thumbnails(train), thumbnails(evaluation)
    best, cosine = best_matches(ours, theirs)
    for n in np.flatnonzero(cosine >= similarity):
        a, b = train["key"].iloc[at[best[n]]], evaluation["key"].iloc[where[n]]
        yield Leak("near-duplicate", a, b, f"cosine {cosine[n]:.2f}")


def _same_area(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame) -> Iterator[Leak]:
    """Other scenes (dates) of an area that trained; scenes that lie apart, or are on both sides anyway, are fine.

    Areas say nothing when all rows have the same one, as in a single folder of scenes.
    """
    if (
        "area" not in train
        or "area" not in evaluation
        or len({*train["area"].unique(), *evaluation["area"].unique()}) < 2
    ):
        return
    ours, theirs = extents(train), extents(evaluation)
    of_scene = evaluation["key"].groupby(scenes_of(evaluation).to_numpy()).agg(list)
    trained = {area: (group[BOUNDS].to_numpy(), group) for area, group in ours.groupby("area")}
    new = theirs[theirs["area"].isin(list(trained)) & ~theirs.index.isin(ours.index)]
    for scene, area, bounds in zip(new.index, new["area"], new[BOUNDS].to_numpy(), strict=True):
        places, group = trained[area]
        near = np.flatnonzero(~apart(places, bounds))
        if len(near):
            old = group.iloc[near[0]]
            yield from (
                Leak("same area", old["key"], key, f"{area}: {old.name} and {scene}") for key in of_scene[scene]
            )
