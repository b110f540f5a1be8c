"""The project's own store: a database and folders of artifacts on this machine, with or without a dashboard beside it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.tracking import _get_store

from swath import config as configs
from swath.files import path_below

SQLITE, SERVED = "sqlite:///", "mlflow-artifacts"
"""Beginning of a SQLite store's URI, and scheme of artifacts that a dashboard takes and keeps."""

SERVED_FOLDER = "mlartifacts"
"""Where a dashboard keeps them, in the folder that it is started in."""


def database_uri(folder: Path) -> str:
    """URI of mlflow.db in a folder. What has a meaning in URIs of databases is escaped, and nothing else."""
    return SQLITE + str(folder / "mlflow.db").replace("%", "%25").replace("?", "%3F")


def database_of(uri: str) -> Path | None:
    """The file behind the URI of a SQLite store; None for other stores."""
    if not uri.startswith(SQLITE):
        return None
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])).absolute()


def artifact_root(folder: Path) -> str:
    """URI of the artifacts of experiments whose store is in a folder."""
    return (folder / "mlruns").as_uri()


def make_store() -> None:
    """Make the project's own store where it is asked for and there is none yet, its artifacts in the project.

    MLflow alone would put them below the folder that we are in. Raises what MLflow raises for a store that is away.
    """
    database = database_of(mlflow.get_tracking_uri())
    if database != configs.PROJECT_ROOT / "mlflow.db" or database.is_file():
        return
    _get_store(artifact_uri=artifact_root(configs.PROJECT_ROOT))


def remove_escaped_folder() -> None:
    """Remove the empty folder that MLflow makes when it opens a database whose URI has escapes: it takes them literally."""
    uri = mlflow.get_tracking_uri()
    database, as_written = database_of(uri), Path(uri.removeprefix(SQLITE)).parent
    if database is not None and as_written.absolute() != database.parent:
        with suppress(OSError):
            os.removedirs(as_written)  # empty ones only


def take_served_artifacts() -> None:
    """Let artifacts of experiments that a dashboard made come and go by its folder, where the store is a local database.

    Such an experiment's artifacts are the dashboard's to take, which MLflow refuses to whoever opens the database itself.
    """
    _artifact_repository_registry.register(SERVED, served_artifacts)


def served_artifacts(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """Artifacts at ``mlflow-artifacts:/<path>``: of a local database in mlartifacts/ beside it, else the server's."""
    database = database_of(tracking_uri or mlflow.get_tracking_uri())
    if database is None:
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    path = unquote(urlsplit(artifact_uri).path).lstrip("/")
    folder = path_below(database.parent / SERVED_FOLDER, path) if path else database.parent / SERVED_FOLDER
    return LocalArtifactRepository(folder.as_uri(), tracking_uri, registry_uri)
