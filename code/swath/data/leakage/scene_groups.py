"""Scenes without a place in groups that show one place: a step that finds dates of one place by what stays the same.

Scenes of all sides are grouped together, so that a place that both trains and tests is found.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.config.ranges import Count, Share
from swath.data.leakage.embeddings import Embedding
from swath.data.leakage.groups import components, exploded
from swath.data.leakage.likeness import as_text, from_texts, pairs_alike
from swath.data.naming import listing
from swath.data.scene_image import SceneImage
from swath.data.tables import SCENES, read_scenes, texts_of, write_table
from swath.errors import ConfigError
from swath.steps.config import Step
from swath.steps.job import Report

log = logging.getLogger("swath.data")


@configclass
class GroupScenesConfig(Step):
    """Groups of scenes that look alike in what does not change: dates of one place. Writes a table of its own."""

    step_name = "group_scenes"

    input_path: InputPath
    """Folder of scenes, with a scenes.parquet or of GeoTIFFs."""
    output_path: OutputPath
    """Folder for a scenes.parquet of the same scenes, with their groups."""
    embedding: Embedding
    """How a scene becomes a vector: BandThumbnail(band) or PretrainedFeatures(bands)."""
    similarity: Share = 0.97
    """Correlation of two vectors from which scenes are of one place. Dates of a place have 0.99 and more, other places
    seldom above 0.9; of PretrainedFeatures 0.95 to 0.98: take 0.98 there, and look at what it joins."""
    column: str = "area"
    """Column that gets the group, which is called by its first scene. An area is taken apart by no split."""
    sides: str | None = None
    """Column that says on which side a scene is, such as train and test: groups on several are reported. None: no report."""
    explode_above: Count | None = None
    """Take groups of more scenes than this apart, into single ones, and say so; None never does."""

    def __post_init__(self) -> None:
        if os.path.abspath(self.input_path) == os.path.abspath(self.output_path):  # noqa: PTH100
            raise ConfigError(f"output_path={self.output_path}: holds the table that is read. Name another folder.")

    def jobs(self) -> list[SceneVector]:
        """A job per scene."""
        scenes = read_scenes(absolute(self.input_path))
        return [
            SceneVector(
                key=row["key"], scene=SceneImage.of(row), embedding=self.embedding,
            )
            for row in scenes.to_dict("records")
        ]  # fmt: skip

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write scenes.parquet; say how many groups there are, and which lie on several sides."""
        scenes = read_scenes(absolute(self.input_path))
        vectors = {key: text for key, text in results.items() if text is not None}
        group = group_by_vectors(scenes["key"], vectors, self.similarity, self.explode_above)
        table = paths_from(scenes.assign(**{self.column: group}), self.output)
        shared = groups_on_several_sides(scenes["key"], group, self._sides(scenes))
        if self.sides is not None:
            table = table.assign(on_several_sides=group.isin(shared["group"]))
        write_table(self.output / SCENES, table)
        sizes = group.value_counts()
        counts = {
            "scenes": len(scenes), "groups": len(sizes), "largest_group": int(sizes.max()),
            "without_vector": len(scenes) - len(vectors), "groups_on_several_sides": len(shared),
        }  # fmt: skip
        return Report(
            metrics={f"preparation/{name}": float(count) for name, count in counts.items()},
            written=[self.output / SCENES],
            texts={"groups_on_several_sides.csv": shared.to_csv(index=False)} if len(shared) else {},
            lines=[", ".join(f"{name} {count}" for name, count in counts.items()), *self._warning(shared)],
        )

    def _sides(self, scenes: gpd.GeoDataFrame) -> pd.Series[Any]:
        """The side of each scene as text; without a column all are on one."""
        return pd.Series("", scenes.index) if self.sides is None else texts_of(scenes, self.sides, "sides").fillna("")

    def _warning(self, shared: pd.DataFrame) -> list[str]:
        if shared.empty:
            return []
        return [
            f"{len(shared)} groups lie on several sides of {self.sides!r}, so scores there are flattered: "
            f"{listing(shared['group'])}. All are in groups_on_several_sides.csv of the run, and in the table."
        ]


@dataclass(frozen=True, kw_only=True)
class SceneVector:
    """One scene to embed."""

    key: str
    scene: SceneImage
    embedding: Embedding

    @property
    def inputs(self) -> list[Path]:
        return [self.scene.path]

    @property
    def outputs(self) -> tuple[Path, ...]:
        return ()

    @property
    def decided_by(self) -> Any:
        """What the table of scenes says of the scene."""
        return self.scene.said

    def run(self) -> str | None:
        """The scene's vector as text, None without one."""
        with self.scene.reader() as reader:
            numbers = reader.info.numbers_of(self.embedding.bands, "Set it with -P embedding.band=<name>.")
            image = reader.image(bands=numbers)
        vector = self.embedding.vector(image)
        return None if vector is None else as_text(vector)


def group_by_vectors(
    keys: pd.Series[Any], vectors: Mapping[str, str], similarity: float, explode_above: int | None = None
) -> pd.Series[Any]:
    """The group of each key, named by its first key: connected components of the pairs that are alike.

    `vectors` are texts of `as_text` by key; a key without one is a group of its own. Groups of more than `explode_above`
    keys fall apart into single ones, and a warning says so.
    """
    at = np.array([number for number, key in enumerate(keys) if key in vectors], np.int64)
    labels = np.arange(len(keys))
    if len(at):
        found = from_texts([vectors[key] for key in keys.iloc[at]])
        labels = components(len(keys), ((at[i], at[j]) for i, j in pairs_alike(found, similarity)))
    if explode_above is not None:
        labels = exploded(labels, np.arange(len(keys)), explode_above)
    return keys.groupby(labels).transform("min")


def groups_on_several_sides(
    keys: pd.Series[Any], group: pd.Series[Any], sides: pd.Series[Any]
) -> pd.DataFrame:  # fmt: skip
    """A row per group whose scenes are on several sides: `group`, `sides`, and the keys of its `scenes`, in one text each."""
    frame = pd.DataFrame({"key": keys, "group": group, "side": sides})
    shared = frame[frame.groupby("group")["side"].transform("nunique") > 1]
    rows = [
        {"group": name, "sides": " ".join(sorted(set(some["side"]))), "scenes": " ".join(some["key"])}
        for name, some in shared.groupby("group", sort=True)
    ]
    return pd.DataFrame(rows, columns=["group", "sides", "scenes"])


def paths_from(scenes: gpd.GeoDataFrame, folder: Path) -> gpd.GeoDataFrame:
    """Scenes as `read_scenes` gives them, for a table in another folder: paths relative to that."""
    moved = {
        column: [os.path.relpath(path, folder) if isinstance(path, str) else None for path in scenes[column]]
        for column in ("image", "labels")
        if column in scenes
    }
    return scenes.assign(**moved)
