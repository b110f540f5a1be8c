"""Folds of scenes as columns of their table: groups dealt out evenly over strata, doubtful scenes left out with a reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.naming import listing
from swath.data.splits.folds import NO_FOLD, GroupFolds, folds_by_group, stratum_of
from swath.data.tables import FILE_COLUMNS, SCENE_COLUMNS, SCENES, read_table, texts_of, write_csv, write_table
from swath.errors import CatalogError, ConfigError
from swath.notices import leave_out
from swath.steps.config import Step
from swath.steps.job import Report

TRAIN, VAL, TEST = "train", "val", "test"
"""What columns split_0, split_1, ... hold; nothing for scenes that are left out."""

JUDGED_IN = "judged_in"
"""Column with the number of the split in which a scene is in `VAL`, as text; nothing for the others. Cross-validation
leaves its values out in turn."""

LEFT_OUT, STRATUM = "left_out", "stratum"
LEFT_OUT_TABLE = "left_out.csv"


@configclass
class AssignFoldsConfig(Step):
    """Columns split_0, split_1, ... of a table of scenes: train, val or test; and judged_in, the split in which it is val.

    Writes a table of its own.
    """

    step_name = "assign_folds"

    input_path: InputPath
    """Folder with a scenes.parquet that has flags and groups."""
    output_path: OutputPath
    """Folder for a scenes.parquet of the same scenes, with their folds, and left_out.csv."""
    folds: GroupFolds = GroupFolds(folds=10, by="area", balance="groups")
    """How many folds, of which groups, over which strata."""
    leave_out: tuple[str, ...] = ()
    """Columns of flags: training scenes that have one of them neither train nor judge."""
    sides: str | None = None
    """Column in which "test" marks scenes that only test; None: there are none."""

    def __post_init__(self) -> None:
        if os.path.abspath(self.input_path) == os.path.abspath(self.output_path):  # noqa: PTH100
            raise ConfigError(f"output_path={self.output_path}: holds the table that is read. Name another folder.")

    def jobs(self) -> list[FoldsJob]:
        """One job: the table."""
        return [FoldsJob(source=absolute(self.input_path) / SCENES, output=self.output, config=self)]

    def finish(self, results: Any) -> Report:
        """Say how many scenes train, test and are left out."""
        counts = results["folds"]
        line = ", ".join(f"{name} {count}" for name, count in counts.items())
        metrics = {f"preparation/{name}": float(count) for name, count in counts.items()}
        return Report(metrics=metrics, files=[self.output / LEFT_OUT_TABLE], lines=[line])


@dataclass(frozen=True, kw_only=True)
class FoldsJob:
    """The table to add folds to, and where it goes."""

    source: Path
    output: Path
    config: AssignFoldsConfig
    key: str = "folds"

    @property
    def inputs(self) -> list[Path]:
        return [self.source]

    @property
    def outputs(self) -> list[Path]:
        return [self.output / SCENES, self.output / LEFT_OUT_TABLE]

    def run(self) -> dict[str, int]:
        """Write the table with its folds and the list of what is left out; return numbers of scenes."""
        scenes = read_table(self.source, SCENE_COLUMNS, "import_scenes")
        table = with_splits(scenes, self.config)
        out = table[table[LEFT_OUT] != ""]
        for why, some in out.groupby(LEFT_OUT, sort=True):
            leave_out(len(some), "scenes", self.source, f"{why} ({listing(some['key'])})")
        write_table(self.output / SCENES, _moved(table, self.source.parent, self.output))
        write_csv(self.output / LEFT_OUT_TABLE, pd.DataFrame({"key": out["key"], "reason": out[LEFT_OUT]}))
        tests = int((table["split_0"] == TEST).sum())
        return {
            "in_folds": len(table) - tests - len(out), "test": tests, "left_out": len(out),
            "groups": table.loc[table["split_0"].isin([TRAIN, VAL]), self.config.folds.by].nunique(),
            "strata": table[STRATUM].nunique(),
        }  # fmt: skip


def with_splits(scenes: gpd.GeoDataFrame, config: AssignFoldsConfig) -> gpd.GeoDataFrame:
    """The scenes with `left_out` (why; empty for those that take part), `stratum` and `judged_in` (of those in folds), and
    split_0, ...

    Raises CatalogError for a column that the table does not have, or holds no flags.
    """
    is_test = _is_test(scenes, config.sides)
    reasons = reasons_to_leave_out(scenes, config.leave_out)
    reasons[is_test] = ""
    takes_part = ~is_test & (reasons == "").to_numpy()
    fold = folds_by_group(scenes.assign(skip=~takes_part), config.folds)
    strata = stratum_of(scenes[takes_part], config.folds.strata).str.strip()
    splits = {}
    for number in range(config.folds.folds):
        conditions = [is_test, fold == number, fold != NO_FOLD]
        splits[f"split_{number}"] = np.select(conditions, [TEST, VAL, TRAIN], "")
    columns = pd.DataFrame(splits, index=scenes.index).replace("", None)
    columns[JUDGED_IN] = [str(number) if number != NO_FOLD else None for number in fold]
    return scenes.assign(**{LEFT_OUT: reasons, STRATUM: strata.reindex(scenes.index)}, **columns)


def _is_test(scenes: gpd.GeoDataFrame, sides: str | None) -> Any:
    """bool (N,): scenes that only test."""
    if sides is None:
        return np.zeros(len(scenes), bool)
    return (texts_of(scenes, sides, "sides") == TEST).to_numpy(bool)


def reasons_to_leave_out(scenes: gpd.GeoDataFrame, flags: Sequence[str]) -> pd.Series[Any]:
    """The first of the `flags` that a scene has, as text; empty for scenes without any.

    Raises CatalogError for a column that is missing, or holds anything but true, false or nothing.
    """
    reasons = pd.Series("", index=scenes.index, dtype=object)
    for flag in flags:
        if flag not in scenes:
            raise CatalogError(f"leave_out: no column {flag!r} in the table. It has: {', '.join(scenes.columns)}.")
        others = [value for value in scenes[flag].dropna().unique() if not isinstance(value, bool | np.bool_)]
        if others:
            raise CatalogError(
                f"leave_out: column {flag!r} holds {others[0]!r}, no flag. Name columns of true and false."
            )
        has = scenes[flag].fillna(False).astype(bool)
        reasons[has & (reasons == "")] = flag
    return reasons


def _moved(table: gpd.GeoDataFrame, source: Path, folder: Path) -> gpd.GeoDataFrame:
    """A table of the folder `source` for another one."""
    moved = {
        column: [os.path.relpath(source / path, folder) if isinstance(path, str) else None for path in table[column]]
        for column in FILE_COLUMNS
        if column in table
    }
    return table.assign(**moved)
