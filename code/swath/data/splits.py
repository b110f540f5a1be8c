"""Who trains and who judges: folds by area, and the check that the two share no ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import geopandas as gpd
import numpy as np
import shapely

from swath.errors import CatalogError, LeakError


def folds_by_area(areas: Sequence[str], folds: Mapping[str, int] | None) -> dict[str, int]:
    """Fold of each area: as given, or numbered alphabetically. Raises CatalogError for areas without a fold."""
    names = sorted(set(areas))
    if folds is None:
        return {name: i for i, name in enumerate(names)}
    missing = [name for name in names if name not in folds]
    if missing:
        raise CatalogError(f"folds: no fold for the areas {', '.join(missing)}. Name each of {', '.join(names)}.")
    return {name: folds[name] for name in names}


def split_by_area(
    tiles: gpd.GeoDataFrame, validation_areas: Sequence[str], training_areas: Sequence[str] | None = None
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """(training tiles, validation tiles): those of `validation_areas` judge, `training_areas` (None: all others) train.

    Raises CatalogError for an area that the table does not have, or when nothing is left to train on, and LeakError
    for an area on both sides.
    """
    known = sorted(set(tiles["area"]))
    unknown = [area for area in (*validation_areas, *(training_areas or ())) if area not in known]
    if unknown:
        raise CatalogError(f"data: no tiles of {', '.join(unknown)}. Areas in the table: {', '.join(known)}.")
    both = sorted(set(validation_areas) & set(training_areas or ()))
    if both:
        raise LeakError(f"data: {', '.join(both)} cannot both train and judge. Take it out of one of the two lists.")
    judged = tiles["area"].isin(list(validation_areas))
    trains = ~judged if training_areas is None else tiles["area"].isin(list(training_areas))
    if not trains.any():
        raise CatalogError(
            f"data.validation_areas: all areas ({', '.join(known)}) are held out, none is left to train on"
        )
    return tiles[trains], tiles[judged]


def split_test(
    tiles: gpd.GeoDataFrame, test_areas: Sequence[str], validation_areas: Sequence[str], allow_selection_set: bool = False
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:  # fmt: skip
    """(tiles that may train or judge, tiles that report): those of `test_areas` report and do nothing else.

    Raises LeakError when an area is to select the weights and to report on them; `allow_selection_set` lets it do both,
    and then the report has to say so. Raises CatalogError for an area that the table does not have.
    """
    known = sorted(set(tiles["area"]))
    unknown = [area for area in test_areas if area not in known]
    if unknown:
        raise CatalogError(f"data: no tiles of {', '.join(unknown)}. Areas in the table: {', '.join(known)}.")
    both = sorted(set(test_areas) & set(validation_areas))
    if both and not allow_selection_set:
        raise LeakError(
            f"data: {', '.join(both)} would select the weights and report on them, so the report would be flattered. "
            "Report on other areas, or set allow_selection_set=True: the run is then marked."
        )
    reports = tiles["area"].isin(list(test_areas))
    return tiles[~reports | tiles["area"].isin(both)], tiles[reports]


def require_disjoint(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame, tolerance: float = 0.01) -> None:
    """Raise LeakError when a training and an evaluation tile are the same or share ground.

    Footprints count as shared from `tolerance` of a tile's area on: neighbours that only touch are fine. Tiles
    without a CRS have no place on earth; they are compared within their scene.
    """
    same = sorted(set(train["key"]) & set(evaluation["key"]))
    ours, theirs = train["key"].to_numpy(), evaluation["key"].to_numpy()
    pairs = [(k, k) for k in same] or [(ours[i], theirs[j]) for i, j in shared_ground(train, evaluation, tolerance)]
    if pairs:
        a, b = pairs[0]
        raise LeakError(
            f"{len(pairs)} pairs of training and evaluation tiles share ground, the first: {a} and {b}. A score on "
            "these tiles would be flattered: hold out whole areas (data.validation_areas) or other scenes."
        )


def shared_ground(a: gpd.GeoDataFrame, b: gpd.GeoDataFrame, tolerance: float = 0.01) -> list[tuple[int, int]]:
    """Positions (i, j) of rows of `a` and `b` whose footprints share more than `tolerance` of the smaller one.

    Rows without a CRS have no place on earth and share ground only with rows of their own scene.
    """
    ours, theirs = a.geometry.to_numpy(), b.geometry.to_numpy()
    j, i = shapely.STRtree(ours).query(theirs, predicate="intersects")
    shared = shapely.area(shapely.intersection(ours[i], theirs[j]))
    smaller = np.minimum(shapely.area(ours[i]), shapely.area(theirs[j]))
    scene = [frame["scene" if "scene" in frame else "key"].to_numpy() for frame in (a, b)]
    comparable = a["crs"].notna().to_numpy()[i] & b["crs"].notna().to_numpy()[j] | (scene[0][i] == scene[1][j])
    found = (shared > tolerance * smaller) & comparable
    return [(int(m), int(n)) for m, n in zip(i[found], j[found], strict=True)]
