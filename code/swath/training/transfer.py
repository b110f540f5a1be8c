"""Start from the weights of another training, and hold parts of a model fixed for some epochs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from swath.config import configclass
from swath.errors import ConfigError
from swath.nn.model import SegmentationModel

WRAPPERS = ("module.", "_orig_mod.", "model.", "network.")
"""Prefixes that data-parallel and compiled modules, trainers and our own models put before a network's names."""

OUTERMOST_LAST: Mapping[type[nn.Module], tuple[str, ...]] = {
    UnetDecoder: ("blocks",),
    LinknetDecoder: ("blocks",),
    MAnetDecoder: ("blocks",),
}
"""Decoders of segmentation-models-pytorch whose lists of modules start at the deepest level. Networks of our own say so
themselves, by an attribute `outermost_last`."""


# ---------------------------------------------------------------------------------------------------------- warm start


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a warm start took: names of the model's tensors, and the reason for each that it did not take."""

    loaded: tuple[str, ...]
    skipped: Mapping[str, str]
    """Name in the model to why it keeps its own values: missing, another shape, or excluded."""
    unused: tuple[str, ...] = ()
    """Names in the weights that no tensor of the model took."""

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded, {len(self.skipped)} skipped, {len(self.unused)} not used"]
        lines += [f"  skipped {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines + [f"  not used {name}" for name in self.unused])


def load_matching(
    model: nn.Module, tensors: Mapping[str, Tensor], exclude: tuple[str, ...] = ("preprocess.",)
) -> Transfer:
    """Copy into `model` every parameter and buffer that `tensors` has under its name and in its shape.

    Names are compared as they are, then without the prefixes in `WRAPPERS`. Of a network of another depth, blocks of
    the same resolution are matched, on the way up as well (see `names_by_resolution`). Names in the model that start
    with one of `exclude` keep their values: by default the preprocessing, whose constants are the config's or the new
    data's. Raises ConfigError when nothing matches.
    """
    placed = names_by_resolution(model, tensors)
    given = {bare_name(new): name for new, name in placed.items()} | placed
    taken: dict[str, str] = {}
    skipped: dict[str, str] = {}
    own = model.state_dict()
    for name, tensor in own.items():
        source = given.get(name) or given.get(bare_name(name))
        reason = _refusal(name, tensor, None if source is None else tensors[source], exclude)
        if reason is None and source is not None:
            taken[name] = source
        else:
            skipped[name] = reason or ""
    if not taken:
        raise ConfigError(_nothing_matches(own, tensors, skipped))
    model.load_state_dict({name: tensors[source] for name, source in taken.items()}, strict=False)
    unused = tuple(name for name in tensors if name not in taken.values())
    return Transfer(loaded=tuple(taken), skipped=skipped, unused=unused)


def names_by_resolution(model: nn.Module, tensors: Collection[str]) -> dict[str, str]:
    """The name that each of `tensors` has in a network as deep as `model`, to its name in the weights.

    An encoder counts its levels from full resolution down, so those of a shallower network are the first of a deeper
    one. Decoders count from the deepest level up: their numbers move by the difference of the depths, and the outer
    blocks of a shallower network become the outer ones of a deeper one. Blocks that a shallower model lacks are left
    out.
    """
    moves: dict[str, int] = {}
    for path in _lists_from_the_deepest(model):
        own = len(list(model.get_submodule(path).children()))
        prefix = f"{bare_name(path)}."
        numbers = [_number_after(prefix, bare_name(name)) for name in tensors]
        known = [number for number in numbers if number is not None]
        if known:
            moves[prefix] = own - 1 - max(known)
    placed: dict[str, str] = {}
    for name in tensors:
        new = _moved(name, moves)
        if new is not None:
            placed[new] = name
    return placed


def _lists_from_the_deepest(model: nn.Module) -> list[str]:
    """Dotted names of the lists of modules in `model` that start at the deepest level."""
    found = []
    for path, module in model.named_modules():
        lists = getattr(module, "outermost_last", OUTERMOST_LAST.get(type(module), ()))
        found += [f"{path}.{name}".lstrip(".") for name in lists]
    return found


def _number_after(prefix: str, name: str) -> int | None:
    """3 of ``decoder.levels.3.weight`` after ``decoder.levels.``."""
    number = name.removeprefix(prefix).partition(".")[0]
    return int(number) if name.startswith(prefix) and number.isdigit() else None


def _moved(name: str, moves: Mapping[str, int]) -> str | None:
    """A tensor's name with the number of its block moved; None for a block in front of the first one."""
    bare = bare_name(name)
    for prefix, move in moves.items():
        number = _number_after(prefix, bare)
        if number is not None and move:
            wrapper, rest = name.removesuffix(bare), bare.removeprefix(f"{prefix}{number}")
            return f"{wrapper}{prefix}{number + move}{rest}" if number + move >= 0 else None
    return name


def for_channels(
    tensors: Mapping[str, Tensor], stem: Collection[str], given: Sequence[str], wanted: Sequence[str]
) -> dict[str, Tensor]:
    """Weights of a network for the channels `given` as weights of the same network for those `wanted`.

    `stem` names the tensors (O, channels, ...) that see the channels. A channel of the same name keeps its filters, a
    new one gets the mean of all: what pretrained stems do with bands that are no colour (`adapt_stem`).
    """
    made = dict(tensors)
    for name in (name for name in stem if made[name].shape[1] == len(given)):
        old, mean = made[name], made[name].mean(dim=1)
        columns = [old[:, list(given).index(channel)] if channel in given else mean for channel in wanted]
        made[name] = torch.stack(columns, dim=1)
    return made


def bare_name(name: str) -> str:
    """A tensor's name without the prefixes in `WRAPPERS`, in any order and number."""
    while prefix := next((p for p in WRAPPERS if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _refusal(name: str, own: Tensor, given: Tensor | None, exclude: tuple[str, ...]) -> str | None:
    if exclude and name.startswith(exclude):
        return "excluded"
    if given is None:
        return "missing in the weights"
    if given.shape != own.shape:
        return f"shape {tuple(given.shape)} in the weights, {tuple(own.shape)} in the model"
    return None


def _nothing_matches(own: Mapping[str, Tensor], given: Mapping[str, Tensor], skipped: Mapping[str, str]) -> str:
    shapes = [f"{name}: {reason}" for name, reason in skipped.items() if reason.startswith("shape")]
    what = f"; {shapes[0]}" if shapes else ""
    return (
        f"warm start: none of {len(given)} tensors fits the model{what}. The weights have {', '.join(list(given)[:3])}, ..., "
        f"the model {', '.join([n for n in own if skipped[n] != 'excluded'][:3])}, ... Name the part of the model that "
        "they belong to (part='network.encoder'), or take weights of the same network."
    )


# -------------------------------------------------------------------------------------------------------------- freeze


def freeze(model: SegmentationModel, part: str = "encoder") -> bool:
    """Hold a part fixed: its parameters get no gradients, and its batch norms use and keep their running statistics.

    `part` is the dotted name of a module, ``network.encoder.layer1``, in which ``network.`` may be left out. Other
    layers of the part, such as dropout, go on as they do. Returns whether this changed anything: if so, wrap the
    model anew for data-parallel training, which looks at what has gradients only once. Raises ConfigError that lists
    the parts there are.
    """
    return _set_frozen(model, _module_name(model, part), True)


def unfreeze(model: SegmentationModel, part: str = "encoder") -> bool:
    """The inverse of `freeze`, for the same `part`. Every parameter in it gets gradients."""
    return _set_frozen(model, _module_name(model, part), False)


def _set_frozen(model: SegmentationModel, name: str, frozen: bool) -> bool:
    changed = (name in model.frozen) != frozen
    model.frozen = model.frozen | {name} if frozen else model.frozen - {name}
    model.get_submodule(name).requires_grad_(not frozen)
    for other in model.frozen:  # parts may lie in one another
        model.get_submodule(other).requires_grad_(False)
    model.train(model.training)
    return changed


def _module_name(model: nn.Module, part: str) -> str:
    names = [name for name, _ in model.named_modules() if name]
    found = next((name for name in (part, f"network.{part}") if name in names), None)
    if found is None:
        parts = sorted({name for name in names if name.count(".") == 1 and name.startswith("network.")})
        raise ConfigError(f"freeze: the model has no part {part!r}. It has {', '.join(parts)}, and parts of these.")
    return found


@configclass
class Freezing:
    """A part of the model that is fixed in the first epochs, or throughout. A value for configs.

    The optimiser has to be built with all parameters, before the first `apply`: those without gradients are left out
    of its steps, decay included. What `apply` does depends on the epoch only, so a resumed training is where it was.
    """

    part: str = "encoder"
    """Dotted name of a module of the network: encoder, encoder.layer1, backbone, ..."""
    epochs: int | None = None
    """Number of epochs, from the first, in which the part is fixed; None: all."""

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 0:
            raise ConfigError(f"freezing.epochs={self.epochs}: give a number of epochs from 0, or None for all")

    def holds(self, epoch: int) -> bool:
        """Whether the part is fixed in this epoch, counted from 0."""
        return self.epochs is None or epoch < self.epochs

    def apply(self, model: SegmentationModel, epoch: int) -> bool:
        """Bring the part into the state of an epoch, counted from 0; call it before each. Returns as `freeze` does."""
        return (freeze if self.holds(epoch) else unfreeze)(model, self.part)
