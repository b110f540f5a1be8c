"""The demo's raw data: 4 training and 2 test areas, two dates each, in the UNOSAT layout.

mlflow run . -e generate_demo_scenes --env-manager local

Seconds. Then look at output/demo/raw in QGIS.
"""

from swath.challenges.demo.simulate import DemoScenesConfig

config = DemoScenesConfig(output_path="output/demo/raw")
