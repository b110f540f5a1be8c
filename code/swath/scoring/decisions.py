"""A decision threshold, with the scenes that it was searched on: a score on these says too much."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from swath.config import absolute
from swath.config.json_files import Shape, read_json
from swath.errors import ConfigError, LeakError
from swath.files import write_json
from swath.scoring.held_out import HeldOutCheck

DECISION = "threshold.json"
"""Name of the file, and of the artifact, that `threshold_search` leaves."""


Decided = TypeVar("Decided", bound=Any)
"""A config with the fields `threshold` and `tuned_on`."""


@dataclass(frozen=True)
class Decision:
    """A threshold and the keys of the scenes that it was made on; none where that is not known."""

    threshold: float | None
    tuned_on: tuple[str, ...] = ()


class _Written(Shape):
    """What the file of a decision holds."""

    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    tuned_on: list[str]


def write_decision(path: Path, decision: Decision) -> None:
    """Write a decision as JSON; whole or not at all."""
    write_json(path, {"threshold": decision.threshold, "tuned_on": list(decision.tuned_on)})


def read_decision(given: float | str | None, artifact: Callable[[str], Path]) -> Decision:
    """What a config's `threshold` means: a number, or where a search left it, a folder, its file, or ``runs:/<id>``.

    ``artifact(reference)`` downloads the file of a run. Raises ConfigError when there is no decision.
    """
    if not isinstance(given, str):
        return Decision(given)
    place = artifact(given) if given.startswith("runs:/") else absolute(given)
    path = place / DECISION if place.is_dir() else place
    give = "Give a number, the output_path of threshold_search, or runs:/<id of its run>"
    if not path.is_file():
        raise ConfigError(f"threshold={given}: no decision of threshold_search at {path}. {give}.")
    found = read_json(path, _Written, ConfigError, f"Start threshold_search again. {give} as threshold.")
    return Decision(float(found["threshold"]), tuple(found["tuned_on"]))


def decided(config: Decided, artifact: Callable[[str], Path]) -> Decided:
    """A config with its threshold as a number, and the scenes that it was searched on where it names a search."""
    decision = read_decision(config.threshold, artifact)
    return replace(config, threshold=decision.threshold, tuned_on=decision.tuned_on or config.tuned_on)


def require_not_tuned(scenes: Iterable[str], tuned_on: Iterable[str], allow_selection_set: bool) -> HeldOutCheck:
    """Check that scored scenes (keys) are none that a threshold was searched on.

    Raises LeakError when some are, unless `allow_selection_set`, which marks the scores.
    """
    both = sorted({scene.partition("/")[0] for scene in scenes} & set(tuned_on))
    if not both:
        return HeldOutCheck()
    named = ", ".join(both[:5])
    if not allow_selection_set:
        raise LeakError(
            f"{named}: the threshold of these maps was searched on them, so a score on them is flattered. "
            "Score other scenes, or go on with -P allow_selection_set=True: the run is then marked."
        )
    return HeldOutCheck(
        True, notes=(f"The threshold was searched on these scenes ({named}): the scores are flattered.",)
    )
