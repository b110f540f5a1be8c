"""Channel sets of the UNOSAT pipeline with the scaling that each was trained with, for configs.

``TrainingConfig(..., **DECIBEL_3)`` or ``replace(base, **DECIBEL_5)``. The constants are those of the pipeline's training
configs, (x / max_value - mean) / std. The pipeline takes missing pixels for 0 dB, also when it measures such constants;
``partial(ZScore)`` without constants measures the valid pixels of your own tiles instead.
"""

from __future__ import annotations

from functools import partial

from swath.config import Factory
from swath.nn.preprocess.normalise import ZScore
from swath.nn.preprocess.sar import Decibel3, Decibel5, Linear3, Linear5, Linear6, LogSquare3, RootRange3

Scaled = dict[str, Factory]
"""The fields `channels` and `normaliser` of a training config."""

LINEAR_3: Scaled = {"channels": partial(Linear3), "normaliser": partial(ZScore, mean=0.0, std=5.0)}
"""VH, VV and mean, divided by 5."""

LOG_SQUARE_3: Scaled = {"channels": partial(LogSquare3), "normaliser": partial(ZScore, mean=-5.0, std=5.0)}
"""ln(x^2) of VH, VV and mean."""

LINEAR_5: Scaled = {
    "channels": partial(Linear5),
    "normaliser": partial(ZScore, mean=(0.1, 0.1, 0.1, 0.0, 1.0), std=10.0),
}
"""VH, VV, mean, difference and norm."""

LINEAR_6: Scaled = {"channels": partial(Linear6), "normaliser": partial(ZScore, mean=0.0, std=1.0, max_value=200.0)}
"""VH, VV, mean, product, ratio and norm, divided by 200."""

DECIBEL_3: Scaled = {
    "channels": partial(Decibel3),
    "normaliser": partial(ZScore, mean=(-17.3987, -10.0204, -12.1084), std=(6.2903, 5.7769, 5.7954)),
}
"""VH, VV and mean in dB."""

DECIBEL_5: Scaled = {
    "channels": partial(Decibel5),
    "normaliser": partial(
        ZScore, mean=(-17.705, -10.333, -12.423, 213.39, 0.4748), std=(6.544, 6.034, 6.064, 245.4, 238.9)
    ),
}
"""VH, VV and mean in dB, product and ratio."""

ROOT_RANGE_3: Scaled = {"channels": partial(RootRange3), "normaliser": partial(ZScore, mean=0.0, std=1.0)}
"""Fifth root of VH, VV and mean within each sample's range, minus 0.5."""
