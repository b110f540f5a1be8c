"""Weights without pickles, and the state from which a killed training goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from swath.errors import TrainingError
from swath.geo.raster import part_of

WRAPPER_PREFIXES = ("module.", "model.", "_orig_mod.")


def save_weights(path: Path, model: nn.Module, notes: Mapping[str, str] | None = None) -> None:
    """Write all parameters and buffers as safetensors; whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    _replace(path, lambda part: save_file(tensors, part, metadata={k: str(v) for k, v in (notes or {}).items()}))


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights written by `save_weights`; prefixes that wrappers add (``module.``, ``model.``) do not matter.

    Raises TrainingError that names missing, surplus or wrongly shaped tensors.
    """
    try:
        tensors = {_bare(name): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"{path}: cannot be read as safetensors ({error}). Fetch the run's weights again."
        ) from error
    own = {_bare(name): name for name, _ in model.state_dict().items()}
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


def _bare(name: str) -> str:
    for prefix in WRAPPER_PREFIXES:
        name = name.removeprefix(prefix)
    return name


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
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: cannot be written ({error}). Free disk space and start the same command again."
        ) from error
    finally:
        part.unlink(missing_ok=True)
