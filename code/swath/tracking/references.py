"""What names a trained model: a run's id, runs:/<id>/<artifact>, models:/<name>, or a folder with a model record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swath import config as configs
from swath.contents import contents_below
from swath.errors import TrackingError

RUNS, MODELS, RECORD, DESCRIPTION = "runs:/", "models:/", "model", "model.json"
"""Beginnings of references, the artifact of a run that holds its model record, and a file that every record has."""

WEIGHTS_SUFFIX = ".safetensors"
_RUN_ID = re.compile(r"[0-9a-f]{32}")
FORMS = (
    "Pass -P run_id=<id of a training run>, runs:/<id>/<artifact>, models:/<name>/<version>, models:/<name>@<alias>, or "
    "a folder with a model record (model.json)"
)


@dataclass(frozen=True)
class ModelReference:
    """A reference taken apart: what kind it is, the run, model or folder, and a path within it."""

    kind: Literal["run", "model", "folder"]
    name: str
    """Id of the run, ``models:/...``, or an absolute path."""
    path: str = RECORD
    """The record within a run's artifacts."""
    weights: str | None = None
    """File of weights that the reference names, beside the record."""


def parse_reference(text: str) -> ModelReference:
    """Take a reference apart. Raises TrackingError for an empty one, or one that lacks its run or model."""
    given = text.partition("#")[0].strip().rstrip("/")  # behind #: the digest that tracking.resolved_reference adds
    if not given:
        raise TrackingError(f"run_id is empty: which model is to be used? {FORMS}.")
    place, _, last = given.rpartition("/")
    weights = last if last.endswith(WEIGHTS_SUFFIX) else None
    if given in (RUNS.rstrip("/"), MODELS.rstrip("/")):
        raise TrackingError(f"run_id={text}: names no run or model. {FORMS}.")
    if given.startswith(RUNS):
        run_id, _, path = (place if weights else given).removeprefix(RUNS).partition("/")
        return ModelReference("run", run_id, path or RECORD, weights)
    if given.startswith(MODELS):
        return ModelReference("model", given)
    folder = configs.absolute(place if weights else given)
    if not _RUN_ID.fullmatch(given) and folder.is_dir():
        return ModelReference("folder", str(folder), "", weights)
    return ModelReference("run", given)


def unknown_model(uri: str, error: Exception) -> TrackingError:
    """What to say of a registered or logged model that cannot be found or fetched."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TrackingError(
        f"run_id={uri}: no such model in the registry ({said}). Look names, versions and aliases up under Models in the "
        "dashboard (`make ui`), or check MLFLOW_TRACKING_URI."
    )


def digest_of_record(folder: Path, reference: str) -> str:
    """Of the names and contents of the files in the folder of a model record. Raises TrackingError when it is none."""
    if not (folder / DESCRIPTION).is_file():
        raise TrackingError(f"run_id={reference}: holds no {DESCRIPTION}, so it is no model record. {FORMS}.")
    return configs.digest(contents_below([folder]))
