"""Asking a step whether its results are there already: the step's own records answer, nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from swath.errors import SwathError
from swath.prediction.config import InferenceConfig
from swath.prediction.scored import inference_made_by
from swath.studies.pipeline import config_of
from swath.training.config import LearningConfig
from swath.training.identity import training_identity

TrainingOf = Callable[[str], str | None]
"""The id of the finished training with an identity, or None."""


@runtime_checkable
class KnowsItsRun(Protocol):
    """A config whose step keeps a ledger in its output folder."""

    def made_by(self) -> str | None:
        """The id of the run that left what the config gives now, whole and unchanged; None where there is none."""


def asking(parameters: Mapping[str, str]) -> Callable[[TrainingOf], str | None]:
    """`made_by` of a step with these parameters, its config_path among them."""
    return partial(made_by, config_of(parameters["config_path"], parameters))


def made_by(config: Any, training_of: TrainingOf) -> str | None:
    """The id of the run that left exactly what a step with this config would; None when the step has to be started.

    ``training_of(identity)`` looks a finished training up in the tracking store, where its results are. Steps that
    keep no records, such as `validate`, are always started, and so are those that cannot run: they say what is wrong.
    """
    try:
        if isinstance(config, KnowsItsRun):
            return config.made_by()
        if isinstance(config, InferenceConfig):
            return inference_made_by(config)
        if isinstance(config, LearningConfig):
            return training_of(training_identity(config))
    except SwathError:
        return None
    return None
