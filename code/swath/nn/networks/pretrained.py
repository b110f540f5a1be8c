"""Networks of a config: checked before anything is built, with pretrained weights for any number of bands.

Tried with segmentation-models-pytorch 0.6 and timm 1.0, one to six bands, sizes from 33 x 40:

- Unet, UnetPlusPlus, FPN, PSPNet, Linknet, MAnet, DeepLabV3, DeepLabV3Plus, Segformer and UPerNet work with
  convolutional encoders of smp and timm (``tu-``); PAN, too, from 128 x 128 pixels.
- mit_b* not with UnetPlusPlus and Linknet; densenet, vgg, xception and inception not with DeepLabV3(Plus) and PAN,
  which need dilated encoders; neither do ``tu-edgenext*``, ``tu-hrnet*`` and ``tu-swin*`` offer those.
- ``tu-swin*`` takes other sizes than its own with ``strict_img_size=False``; ``tu-maxvit*``, ``tu-coat*``,
  ``tu-hiera*`` and ``tu-efficientformerv2*`` take their own size only; ``tu-vit*`` has no pyramid of features
  and works with DPT (``dynamic_img_size=True``).
- dpn92, dpn68b and dpn107 have ``"imagenet+5k"`` weights, no ``"imagenet"``.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import timm
from huggingface_hub import constants as hub
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from torch import Tensor, nn

from swath.config import Factory
from swath.errors import ConfigError

log = logging.getLogger("swath.model")

TIMM = "tu-"
PATIENCE = 5.0
"""Seconds that a server has to answer before it counts as out of reach."""

Positions = Sequence[int | None]
"""Where red, green and blue are among the input channels; None for a colour that is not there."""


# --------------------------------------------------------------------------------------------------------------- build


def build_network(factory: Factory, in_channels: int, classes: int, rgb: Positions | None = None) -> nn.Module:
    """The network of a config, with its pretrained weights where it asks for some (``encoder_weights``).

    Pretrained filters of red, green and blue stay those of the channels at `rgb` (None: of the first three, where
    there are three); every other channel starts from their mean. Where weights cannot be had, one warning, and the
    network starts from random ones. Raises ConfigError for settings that no such network has.
    """
    check_network(factory)
    wanted = wanted_weights(factory)
    random = partial(without_weights(factory), **({} if takes(factory, "tasks") else {"classes": classes}))
    network = _refuse_as_config(partial(random, in_channels=in_channels))
    source = pretrained(partial(factory, in_channels=3, classes=classes), wanted) if wanted else None
    if source is None:
        return network
    if in_channels == 3 and list(rgb or (0, 1, 2)) == [0, 1, 2]:
        return source
    other = network if in_channels != 3 else random(in_channels=4)  # its shapes tell which weights are the stem's
    network.load_state_dict(adapted(source.state_dict(), network.state_dict(), other.state_dict(), in_channels, rgb))
    return network


def wanted_weights(factory: Factory) -> str | bool | None:
    """The pretrained weights that a network factory asks for, by its own default where the config is silent."""
    return _settings(factory).get("encoder_weights") or None


def without_weights(factory: Factory) -> Factory:
    """The same network from random weights: for those who bring weights of their own, from a run's record say."""
    if _settings(factory).get("encoder_weights") is None:
        return factory
    function, given = _called_with(factory)
    return partial(function, **given | {"encoder_weights": None})


def _called_with(factory: Factory) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What a factory calls, and the arguments that it binds, by name."""
    made = factory if isinstance(factory, partial) else partial(factory)
    return made.func, dict(zip(inspect.signature(made.func).parameters, made.args, strict=False)) | made.keywords


def takes(factory: Factory, name: str) -> bool:
    """Whether a network factory has an argument of this name."""
    return name in inspect.signature(_called_with(factory)[0]).parameters


def _settings(factory: Factory) -> dict[str, Any]:
    """Every argument of a factory's call by name: defaults of the class, then what the config binds."""
    function, given = _called_with(factory)
    known = inspect.signature(function).parameters.items()
    return {name: p.default for name, p in known if p.default is not inspect.Parameter.empty} | given


def _refuse_as_config(factory: Callable[[], nn.Module]) -> nn.Module:
    try:
        return factory()
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        if isinstance(error, TypeError) and "argument" not in str(error):
            raise
        what = str(error.args[0]) if error.args else "refuses this combination of network and encoder"
        raise ConfigError(f"model={_described(factory)}: {what}") from error


def _described(factory: Factory) -> str:
    function, encoder = _called_with(factory)[0], _settings(factory).get("encoder_name")
    return f"{getattr(function, '__name__', function)}" + (f"({encoder})" if encoder else "")


# --------------------------------------------------------------------------------------------------------------- check


def check_network(factory: Factory) -> None:
    """Refuse an encoder, weights or depth that do not exist, before anything is built; needs no data, no network.

    Raises ConfigError that names the value and the nearest right one.
    """
    settings = _settings(factory)
    name = settings.get("encoder_name")
    if not isinstance(name, str) or not _is_smp(factory):
        return
    _check_encoder(name)
    _check_weights(name, wanted_weights(factory))
    _check_decoder(settings)
    if not name.startswith(("tu-", "timm-")):
        _check_keywords(factory)  # of these encoders, smp swallows any


def _is_smp(factory: Factory) -> bool:
    return getattr(_called_with(factory)[0], "__module__", "").startswith("segmentation_models_pytorch")


def _check_encoder(name: str) -> None:
    architecture = name.removeprefix(TIMM).split(".")[0]
    if name in smp_encoders or (name.startswith(TIMM) and (":" in name or timm.is_model(architecture))):
        return
    if name.startswith("timm-") and timm.is_model(architecture.removeprefix("timm-")):
        return  # old names that smp still maps
    known = list(smp_encoders) if not name.startswith(TIMM) else []
    near = _nearest(name, known + [TIMM + model for model in timm.list_models()])
    raise ConfigError(f"model.encoder_name={name}: no such encoder.{near} timm's encoders are written tu-<name>.")


def _check_weights(name: str, wanted: str | bool | None) -> None:
    """A slip of the pen is an error; weights that exist, though not for this encoder, are `pretrained`'s matter."""
    tag = name.partition(".")[2]
    if name.startswith(TIMM) and tag and ":" not in name and not timm.is_model_pretrained(name.removeprefix(TIMM)):
        known = timm.list_pretrained(name.removeprefix(TIMM).split(".")[0] + ".*")
        raise ConfigError(f"model.encoder_name={name}: no such weights.{_nearest(name, [TIMM + k for k in known])}")
    everywhere = sorted({weights for encoder in smp_encoders.values() for weights in encoder["pretrained_settings"]})
    if name in smp_encoders and wanted and wanted not in everywhere:
        own = ", ".join(smp_encoders[name]["pretrained_settings"]) or "none"
        raise ConfigError(f"model.encoder_weights={wanted!r}: no such weights. {name} has: {own}.")


def _check_decoder(settings: Mapping[str, Any]) -> None:
    depth, channels = settings.get("encoder_depth"), settings.get("decoder_channels")
    if isinstance(depth, int) and isinstance(channels, (tuple, list)) and len(channels) != depth:
        raise ConfigError(
            f"model.encoder_depth={depth} with model.decoder_channels={tuple(channels)}: "
            f"give one number of channels per level, {depth} instead of {len(channels)}"
        )


def _check_keywords(factory: Factory) -> None:
    function, given = _called_with(factory)
    known = inspect.signature(function).parameters
    for name in given:
        if name not in known:
            raise ConfigError(
                f"model.{name}: {_described(factory)} takes no such setting.{_nearest(name, list(known))}"
            )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = [k for k in known if k.startswith(name)] or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


# ---------------------------------------------------------------------------------------------------------- pretrained


def pretrained(factory: Callable[[], nn.Module], wanted: str | bool) -> nn.Module | None:
    """A network with its pretrained weights, or None and one warning when they cannot be had.

    Call it when the same factory has worked without weights: then whatever goes wrong is a matter of the weights.
    """
    try:
        with hub_without_waiting():
            return factory()
    except Exception as error:  # noqa: BLE001 - errors of three libraries, their hubs and their files
        reason = str(error.args[0] if error.args else error).splitlines()[:1] or [type(error).__name__]
        log.warning(
            "pretrained weights %r of %s cannot be loaded (%s): starting from random weights. Start once where the "
            "internet is in reach, name weights that there are, or set encoder_weights=None.",
            wanted,
            _described(factory),
            reason[0],
        )
        return None


@contextmanager
def hub_without_waiting() -> Iterator[None]:
    """Hugging Face's hub in its offline mode while it does not answer: files in its cache load, others fail at once.

    Without this, each file that smp and timm look for takes 23 seconds of retries, which no argument of theirs sets.
    """
    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = before or not answers(hub.ENDPOINT)
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def answers(url: str, patience: float = PATIENCE) -> bool:
    """Whether a server answers within `patience` seconds, whatever it says; proxies of the environment are used."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=patience):
            return True
    except HTTPError:
        return True
    except (URLError, OSError):
        return False


# ---------------------------------------------------------------------------------------------------------------- stem


def adapted(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], other: Mapping[str, Tensor], channels: int,
    rgb: Positions | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Weights of a network for 3 channels as weights of the same network for `channels`, whose own are `target`.

    The stem (its first convolution; some have several) is what has another shape in `other`, weights of that network
    for another number of channels than 3. What `adapt_stem` cannot adapt keeps its values of `target`, with a warning.
    """
    made, left = dict(source), []
    for name in (name for name in source if other[name].shape != source[name].shape):
        if _is_stem(source[name], target[name], channels):
            made[name] = adapt_stem(source[name], channels, rgb)
        else:
            made[name] = target[name]
            left.append(name)
    if left:
        log.warning("%s: not to be adapted to %d channels, left at random", ", ".join(left), channels)
    return made


def _is_stem(source: Tensor, target: Tensor, channels: int) -> bool:
    groups, rest = divmod(source.shape[1] if source.ndim > 1 else 0, 3)
    return groups > 0 and rest == 0 and target.shape == (source.shape[0], groups * channels, *source.shape[2:])


def adapt_stem(weight: Tensor, channels: int, rgb: Positions | None = None) -> Tensor:
    """Filters (O, 3, h, w) on red, green, blue to filters (O, channels, h, w), on the same device, of the same type.

    The channels at positions `rgb` get the filters of red, green and blue; all others the mean of the three. None:
    the first three channels; with fewer than three none is taken for a colour, and all get the mean. Nothing is
    rescaled: the batch norm that follows finds the new scale, unless it is frozen. smp and timm repeat red, green,
    blue over the channels instead and scale by 3 / channels. Stems that stack k pixels, (O, 3 k, h, w), work, too.
    Raises ConfigError for positions that are not among the channels.
    """
    positions = rgb if rgb is not None else (0, 1, 2) if channels >= 3 else ()
    wrong = [p for p in positions if p is not None and not 0 <= p < channels]
    if wrong or len(positions) not in (0, 3):
        raise ConfigError(f"rgb={tuple(positions)}: give three positions, each None or from 0 to {channels - 1}")
    filters = weight.reshape(weight.shape[0], -1, 3, *weight.shape[2:])
    made = filters.mean(dim=2, keepdim=True).repeat_interleave(channels, dim=2)
    for colour, position in enumerate(positions):
        if position is not None:
            made[:, :, position] = filters[:, :, colour]
    return made.flatten(1, 2)
