"""Asking a step whether its results are there already: the step's own records answer, nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from swath.errors import SwathError
from swath.prediction.config import InferenceConfig
from swath.prediction.scored import inference_made_by
from swath.training.config import LearningConfig
from swath.training.identity import training_identity


@runtime_checkable
class KnowsItsRun(Protocol):
    """A config whose step keeps a ledger in its output folder."""

    def made_by(self) -> str | None:
        """The id of the run that left what the config gives now, whole and unchanged; None where there is none."""


def made_by(config: Any, training_of: Callable[[str], str | None]) -> str | None:
    """The id of the run that left exactly what a step with this config would; None when the step has to be started.

    ``training_of(identity)`` looks a finished training up in the tracking store, where its results are. Steps that
    keep no records, such as `validate`, are always started.
    """
    if isinstance(config, KnowsItsRun):
        return config.made_by()
    if isinstance(config, InferenceConfig):
        return inference_made_by(config)
    if isinstance(config, LearningConfig):
        try:
            return training_of(training_identity(config))
        except SwathError:
            return None  # the training itself says what is wrong, when it runs
    return None
