"""Predictions and labels of the same scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swath.data.naming import by_key
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


def pair_predictions(predictions: Path, truth: Path) -> Pairs:
    """Pair rasters by key. Raises CatalogError when no prediction has labels."""
    predicted, labels = by_key(predictions), by_key(truth)
    both = sorted(set(predicted) & set(labels))
    if not both:
        raise CatalogError(
            f"{predictions} and {truth} have no scene in common ({len(predicted)} and {len(labels)} rasters). Check both paths."
        )
    return Pairs(
        {key: (predicted[key], labels[key]) for key in both},
        sorted(set(labels) - set(both)),
        sorted(set(predicted) - set(both)),
    )
