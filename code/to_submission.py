"""Dates merged by area, polygonised, packed as one shapefile per area, reopened and checked."""

from swath.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

import os
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.challenges import shapefiles
from swath.challenges.shapefiles import Layer, PolygonJob, SubmissionConfig
from swath.geo.polygons import PolygonRules


def main() -> None:
    config, config_path = configs.from_command_line(SubmissionConfig)
    source, output = configs.absolute(config.input_path), configs.absolute(config.output_path)
    jobs = shapefiles.area_jobs(source, output / "aggregated", config.rule, config.threshold)
    with tracking.run(config, config_path, "to_submission") as run:
        layers: dict[str, Layer] = {}
        for job in jobs:
            shapefiles.aggregate_area(job)
            target = output / f"{(config.names or {}).get(job.area, job.area)}.shp"
            rules = PolygonRules(min_area=config.min_area)
            count = shapefiles.polygonize_job(
                PolygonJob(raster=job.classes, output=target, rules=rules, workers=os.cpu_count() or 1)
            )
            layers[job.area] = Layer(target, job.classes, count)
        archive = output / "submission.zip"
        archive.unlink(missing_ok=True)  # an older one must not stand beside newer shapefiles
        shapefiles.pack(list(layers.values()), archive)
        for area, layer in layers.items():
            found = shapefiles.check_layer(layer, archive, config.min_area)
            run.log_metrics({f"submission/{name}_{area}": value for name, value in found.items()})
            print(f"{layer.shapefile}: {found['polygons']:.0f} polygons, {found['area_km2']:.2f} km2, checked")
        run.log_file(archive)
        if config.scenes_path:
            picture(run, layers, config.scenes_path, output)


def picture(run: tracking.Run, layers: dict[str, Layer], scenes_path: str, output: Path) -> None:
    """One picture of all areas: the polygons over their scenes."""
    scenes = configs.absolute(scenes_path)
    drawn = {a: shapefiles.area_picture(a, layer, scenes) for a, layer in layers.items()}
    found = {f"{a}: {layers[a].polygons} polygons": p for a, p in drawn.items() if p is not None}
    if found:
        image = shapefiles.beside(found)
        shapefiles.write_picture(output / "map.png", image)
        run.log_picture(image, "map.png")


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
