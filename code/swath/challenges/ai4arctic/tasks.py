"""What the AutoICE challenge asks about a pixel, by the names of its classes, and how it weighs the answers."""

from __future__ import annotations

from swath.challenges.ai4arctic.charts import CHARTS
from swath.scoring.config import ScoringConfig

SIC = tuple(str(10 * step) for step in range(CHARTS["SIC"]))
"""Concentration in percent: steps of one quantity."""
SOD = ("water", "new", "young", "thin_first_year", "thick_first_year", "old")
"""Stage of development."""
FLOE = ("water", "cake", "small", "medium", "big", "vast", "bergs")
"""Floe size."""

AUTOICE = ScoringConfig(
    combined={"SIC/r2": 2.0, "SOD/f1_weighted": 2.0, "FLOE/f1_weighted": 1.0},
    conditions=("area", "month", "provider", "mission"),
)
"""The challenge's score, over all labelled pixels of the set, and what it is broken down by."""

BEST = ("validation/SIC/r2", "validation/SOD/f1_weighted", "validation/FLOE/f1_weighted")
"""Metrics that keep best weights of their own, beside those of the combined score."""
