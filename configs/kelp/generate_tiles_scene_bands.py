"""The tiles of generate_tiles.py with bands that the first place made of each whole tile; inference makes them again.

mlflow run . -e generate_tiles --env-manager local -P config_path=configs/kelp/generate_tiles_scene_bands.py

ONIR and OR are NIR and red beyond their median over water (elevation of at most 1 m); its ODVI is a formula of the two:
partial(Indices, indices=("NDVI", "ODVI"), formulas={"ODVI": "ONIR - OR"}). LAND is 1 on land and falls to 0 away from it.
"""

from dataclasses import replace

from swath.geo.conditions import Where
from swath.geo.scene_bands import Closeness, FromMedian

from .generate_tiles import config as plain

WATER = Where(band="DEM", at_most=1.0)

config = replace(
    plain,
    output_path="output/kelp/tiles_scene_bands",
    scene_bands={
        "ONIR": FromMedian(band="NIR", over=WATER),
        "OR": FromMedian(band="R", over=WATER),
        "LAND": Closeness(to=Where(band="DEM", above=1.0)),
    },
)
