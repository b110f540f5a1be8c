"""Predictions and labels of the same scenes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swath.data.pairing import by_key, labels_by_key
from swath.errors import CatalogError


@dataclass(frozen=True)
class Pairs:
    """Predictions with their labels, and keys that have only one of the two."""

    found: Mapping[str, tuple[Path, Path]]
    missing: Sequence[str]
    extra: Sequence[str]

    @property
    def notes(self) -> list[str]:
        """Sentences about what has no partner."""
        kinds = (("labels without a prediction", self.missing), ("predictions without labels", self.extra))
        return [f"{len(keys)} {what}: {', '.join(keys[:5])}" for what, keys in kinds if keys]


def pair_predictions(predictions: Path, truth: Path, name_parts: Collection[str] = ()) -> Pairs:
    """Pair rasters by key; `name_parts`, such as vh in ``<scene>_vh``, do not matter. Raises CatalogError when no prediction has labels."""
    predicted, labels = by_key(predictions, name_parts), labels_by_key(truth, name_parts)
    both = sorted(set(predicted) & set(labels))
    if not both:
        raise CatalogError(
            f"{predictions} and {truth} have no scene in common ({len(predicted)} and {len(labels)} rasters). Check both paths, "
            "or name the parts of file names that do not matter in name_parts."
        )
    return Pairs(
        {key: (predicted[key], labels[key]) for key in both},
        sorted(set(labels) - set(both)),
        sorted(set(predicted) - set(both)),
    )
