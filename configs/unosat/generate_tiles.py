"""Scenes and masks to tiles."""

from swath.data.tiling import TilesConfig

config = TilesConfig(
    input_path="output/unosat/scenes/train",
    masks_path="output/unosat/masks/train",
    output_path="output/unosat/tiles",
)
