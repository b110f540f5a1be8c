"""Losses against labels that are blurred: near a border, a pixel belongs to a class by the share of
its surroundings.

For labels that are drawn by hand and lie a pixel off. A pixel's target is the mean of its
neighbours' one-hot labels with Gaussian weights of `sigma` pixels; ignored neighbours have no
weight, and neither has what is beyond the tile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.nn.losses.labelled import EPS, Labelled, labelled, power
from swath.nn.losses.overlap import Areas, Dice, sums


class BlurredFocal(nn.Module):
    """Mean over labelled pixels of sum_k t_k (1 - p_k)^gamma (-log p_k), where t are the blurred
    targets.

    With gamma = 0 cross entropy against shares. Without blur (`sigma` towards 0) the focal loss of
    Lin et al. 2017.
    """

    def __init__(self, gamma: float = 2.0, sigma: float = 0.5) -> None:
        super().__init__()
        self.gamma, self.sigma = gamma, _positive(sigma)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        logarithm = pixels.logits.log_softmax(1)
        doubt = -torch.expm1(logarithm)  # 1 - p, exact where p is close to 1
        focal = -power(doubt, self.gamma) * logarithm if self.gamma else -logarithm
        target = blurred_target(pixels, self.sigma)
        return pixels.mean((target * focal).sum(1))


class BlurredDice(Dice):
    """1 - mean over classes of 2 sum p t / (sum p + sum t), where t are the blurred targets.

    Its least value is above 0, and reached by maps with sharp borders: blurred targets make
    mistakes at borders cheaper, not maps smoother.
    """

    def __init__(self, classes: tuple[int, ...] | None = None, sigma: float = 0.5, smooth: float = EPS) -> None:
        super().__init__(classes, smooth)
        self.sigma = _positive(sigma)

    def _areas(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Areas:
        pixels = labelled(logits_BKHW, target_BHW)
        return sums(pixels, blurred_target(pixels, self.sigma), self.classes)


def blurred_target(pixels: Labelled, sigma: float) -> Tensor:
    """float32 (B, K, H, W): share of each class in the surroundings of a labelled pixel; 0 at
    ignored pixels.

    Weights are those of a Gaussian of `sigma` pixels, cut off at 4 sigma; the shares of a pixel sum
    to 1.
    """
    numbers = torch.arange(pixels.classes, device=pixels.labels.device)[:, None, None]
    truth = (pixels.labels[:, None] == numbers) & pixels.valid[:, None]
    weight = _blur(pixels.valid[:, None].float(), sigma)
    share = _blur(truth.float(), sigma) / weight.clamp(min=EPS)
    return torch.where(pixels.valid[:, None], share, 0.0)


def _blur(image_BCHW: Tensor, sigma: float) -> Tensor:
    """Sums with Gaussian weights along rows and columns, zeros beyond the edge."""
    radius = int(4 * sigma + 0.5)
    places = torch.arange(-radius, radius + 1, device=image_BCHW.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / sigma) ** 2)
    weights = weights / weights.sum()
    batch, channels, height, width = image_BCHW.shape
    planes = image_BCHW.reshape(batch * channels, 1, height, width)
    along_rows = F.conv2d(planes, weights.view(1, 1, 1, -1), padding=(0, radius))
    along_both = F.conv2d(along_rows, weights.view(1, 1, -1, 1), padding=(radius, 0))
    return along_both.reshape(image_BCHW.shape)


def _positive(sigma: float) -> float:
    if sigma <= 0:
        raise ConfigError(f"sigma={sigma}: must be above 0 pixels; without blur take Focal or Dice")
    return sigma
