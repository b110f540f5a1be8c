"""Class rasters to polygons with the class as `id`."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

import os
from collections import Counter

from swath import config as configs
from swath import tracking
from swath.errors import CatalogError
from swath.geo.polygons import PolygonRules
from swath.geo.raster import find_rasters
from swath.prediction.polygonize import PolygonizeConfig, PolygonJob, polygonize_job
from swath.steps.ledger import Item
from swath.steps.run import process


def main() -> None:
    config, config_path = configs.from_command_line(PolygonizeConfig)
    source, output = configs.absolute(config.input_path), configs.absolute(config.output_path)
    rasters = [source] if source.is_file() else find_rasters(source)
    if not rasters:
        raise CatalogError(
            f"{source}: no class rasters found. Set input_path to the output of inference or all_agg_by_city."
        )
    twice = [name for name, count in Counter(r.stem for r in rasters).items() if count > 1]
    if twice:
        raise CatalogError(
            f"{source}: several rasters are called {', '.join(twice[:5])}; their polygons would get the same name. "
            "Set input_path to one folder at a time, or rename one of them."
        )
    rules = PolygonRules(classes=config.classes, min_area=config.min_area, simplify=config.simplify)
    share = max(1, (config.workers or os.cpu_count() or 1) // len(rasters))  # few rasters: their strips in parallel
    jobs = [
        PolygonJob(raster=r, output=output / f"{r.stem}.{config.format}", rules=rules, workers=share, task=config.task)
        for r in rasters
    ]
    items = [Item(key=j.raster.stem, job=j, inputs=(j.raster,), outputs=(j.output,)) for j in jobs]
    with tracking.run(config, config_path, "polygonize") as run:
        found = process(
            "polygonize",
            polygonize_job,
            items,
            config,
            output,
            tracking.provenance(config_path),
            run.log_metrics,
        )
        run.log_metrics({"polygons": float(sum(found.values()))})


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
