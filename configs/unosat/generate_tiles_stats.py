"""Statistics."""

from swath.data.stats import StatsConfig

config = StatsConfig(input_path="output/unosat/tiles", min_valid_ratio=0.05)
