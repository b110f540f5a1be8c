"""Weights without pickles, and the state from which a killed training goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from swath.config.json_files import parse_json
from swath.errors import ConfigError, TrainingError
from swath.files import atomic_write
from swath.nn.model import SegmentationModel
from swath.nn.networks.masked import MaskedModel
from swath.training.transfer import Transfer, bare_name, for_channels, load_matching

log = logging.getLogger("swath.training")

STATE_KEYS = ("model", "state_dict", "model_state_dict")
"""Entries under which trainings keep the weights of the model, beside the optimiser's."""


CHANNELS, STEM = "channels", "stem"
"""Notes of a pretrained encoder: names of its channels, and of the tensors whose second axis they are; both JSON."""


def save_weights(path: Path, model: nn.Module, notes: Mapping[str, str] | None = None, part: str = "") -> None:
    """Write all parameters and buffers, or those whose names begin with `part`, as safetensors; whole or not at all."""
    chosen = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(part)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in chosen.items()}
    _replace(path, lambda part: save_file(tensors, part, metadata={k: str(v) for k, v in (notes or {}).items()}))


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights written by `save_weights`; prefixes that wrappers add (``module.``, ``model.``) do not matter.

    Raises TrainingError that names missing, surplus or wrongly shaped tensors.
    """
    try:
        tensors = {bare_name(name): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"{path}: cannot be read as safetensors ({error}). Fetch the run's weights again."
        ) from error
    own = {bare_name(name): name for name, _ in model.state_dict().items()}
    _require_match(path, tensors, {bare: model.state_dict()[name] for bare, name in own.items()})
    model.load_state_dict({own[bare]: tensor for bare, tensor in tensors.items()})


def _require_match(path: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    missing, surplus = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    shapes = [
        f"{n} is {tuple(tensors[n].shape)}, the model has {tuple(own[n].shape)}"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape
    ]
    if missing or surplus or shapes:
        what = [f"lacks {missing[:3]}"] * bool(missing) + [f"has unknown {surplus[:3]}"] * bool(surplus) + shapes[:3]
        raise TrainingError(
            f"{path}: does not fit the model: {'; '.join(what)}. Use the weights with their own run's config."
        )


def warm_start(
    model: SegmentationModel | MaskedModel, weights: Path, part: str = "", exclude: tuple[str, ...] = ("preprocess.",)
) -> Transfer:
    """Start a model from the tensors of another training that fit by name and shape; the rest keep their values.

    `weights` is a safetensors file or a PyTorch one of tensors and plain values. `part` names the module of the model
    that the weights belong to, such as ``network.encoder`` for those of an encoder alone; of weights of a whole model
    it takes that part. Filters of a pretraining find their channels by name. Names and `exclude`: see `load_matching`.
    What was loaded and what was not, and why, is logged and returned. Raises ConfigError when the
    file cannot be read, nothing fits, or there is no such part.
    """
    parts = dict(model.named_modules())
    if part not in parts:
        known = [name for name in parts if name and name.count(".") < 2]
        raise ConfigError(f"warm start: the model has no part {part!r}. It has {', '.join(known)}, and parts of these.")
    tensors = _for_channels_of(model, weights, read_tensors(weights))
    inside = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if part and name.startswith(f"{part}.")}
    found = load_matching(parts[part], inside or tensors, exclude)
    log.info("warm start from %s: %s", weights, found)
    return found


def _for_channels_of(
    model: SegmentationModel | MaskedModel, path: Path, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """A pretrained encoder's tensors for the channels of `model`; other weights as they are."""
    if path.suffix != ".safetensors":
        return tensors
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    if CHANNELS not in notes or STEM not in notes:
        return tensors
    given = _note(path, notes, CHANNELS, list[str])
    stem = _note(path, notes, STEM, list[str])
    wanted = model.preprocess.channels.names
    if list(given) != list(wanted):
        new = ", ".join(name for name in wanted if name not in given) or "none"
        log.info("warm start: channels are found by name; the mean of all filters for those that are new: %s", new)
    return for_channels(tensors, stem, given, wanted)


def _note(path: Path, notes: Mapping[str, str], name: str, shape: Any) -> Any:
    remedy = "Fetch the weights of the pretraining again."
    return parse_json(notes[name], shape, ConfigError, f"{path}: note `{name}`", remedy)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or of a PyTorch checkpoint, where those of the model may be one of several
    entries (``model``, ``state_dict``, ``model_state_dict``). Only tensors and plain values are unpickled.

    Raises ConfigError when there is no such file or it holds no named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle or archive fails in any way that it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{path}: cannot be read as weights ({reason}). Give a safetensors file, or a PyTorch file of tensors only."
        ) from error
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ConfigError(f"{path}: holds no named tensors. Save model.state_dict().")
    return tensors


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training's state (tensors and plain values); whole or not at all."""
    _replace(path, lambda part: torch.save(dict(state), part))


def load_state(path: Path) -> dict[str, Any] | None:
    """The state in `path`, or None when there is none. Only tensors and plain values are unpickled."""
    if not path.is_file():
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise TrainingError(f"{path}: cannot be read ({error}). Delete it to start this training anew.") from error


def _replace(path: Path, write: Any) -> None:
    with atomic_write(path, TrainingError, (OSError, RuntimeError, SafetensorError)) as part:
        write(part)
