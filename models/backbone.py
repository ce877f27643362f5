"""The network body every dense task shares: EfficientNet-Lite0 and a top-down neck.

The backbone is rebuilt here with the parameter names of the package ``efficientnet-lite-pytorch``
(Apache-2.0), so that its ImageNet weights load as they are when training starts; running needs
plain PyTorch only. Batch normalisation keeps its ImageNet statistics, also while training, and is
folded into the convolutions by :func:`fused` before running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: (input channels, output channels, expansion, kernel, stride) of the sixteen blocks.
#: Source: the EfficientNet-Lite0 definition of the TensorFlow TPU models (Apache-2.0).
_BLOCKS: tuple[tuple[int, int, int, int, int], ...] = (
    (32, 16, 1, 3, 1),
    (16, 24, 6, 3, 2),
    (24, 24, 6, 3, 1),
    (24, 40, 6, 5, 2),
    (40, 40, 6, 5, 1),
    (40, 80, 6, 3, 2),
    (80, 80, 6, 3, 1),
    (80, 80, 6, 3, 1),
    (80, 112, 6, 5, 1),
    (112, 112, 6, 5, 1),
    (112, 112, 6, 5, 1),
    (112, 192, 6, 5, 2),
    (192, 192, 6, 5, 1),
    (192, 192, 6, 5, 1),
    (192, 192, 6, 5, 1),
    (192, 320, 6, 3, 1),
)
#: The blocks whose outputs have strides 4, 8, 16 and 32, and their channels.
_TAPS = {2: 24, 4: 40, 10: 112, 15: 320}


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME, for sides that the stride divides."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            cin,
            cout,
            kernel,
            stride,
            padding=kernel // 2 if stride == 1 else 0,
            groups=groups,
            bias=False,
        )
        total = kernel - stride
        self.pad = (total // 2, total - total // 2) * 2 if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `x`."""
        return super().forward(x if self.pad is None else functional.pad(x, self.pad))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """An inverted residual block without squeeze and excitation."""

    def __init__(self, cin: int, cout: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        mid = cin * expand
        self.expands = expand != 1
        if self.expands:
            self._expand_conv = _Conv(cin, mid, 1)
            self._bn0 = _norm(mid)
        self._depthwise_conv = _Conv(mid, mid, kernel, stride, groups=mid)
        self._bn1 = _norm(mid)
        self._project_conv = _Conv(mid, cout, 1)
        self._bn2 = _norm(cout)
        self.skips = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform features of `cin` channels into `cout`."""
        y = x
        if self.expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        result: torch.Tensor = x + y if self.skips else y
        return result


class Lite0(nn.Module):
    """EfficientNet-Lite0 without its classifier; gives features at strides 4, 8, 16 and 32.

    Other `taps` (block numbers) give other features; blocks after the last tap are left out.
    """

    def __init__(self, taps: Sequence[int] = tuple(_TAPS)) -> None:
        super().__init__()
        self.taps = frozenset(taps)
        self._conv_stem = _Conv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList(_Block(*block) for block in _BLOCKS[: max(taps) + 1])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps of an (n, 3, rows, cols) batch, the finest first."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        features = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.taps:
                features.append(x)
        return features

    def train(self, mode: bool = True) -> Lite0:
        """Keep batch normalisation on its stored statistics: our batches are too small for new."""
        super().train(False)
        return self


class Separable(nn.Module):
    """Depthwise then pointwise convolution with group normalisation; looks `kernel` wide."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.GroupNorm(8, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the neighbourhood says to `x`."""
        out: torch.Tensor = functional.relu(self.norm(self.pointwise(self.depthwise(x))))
        return x + out


class DenseNet(nn.Module):
    """Lite0, a feature pyramid of `width` channels and one linear head per named output.

    Outputs are maps at stride 4. Context blocks at the coarse levels let a tooth see the arch.
    """

    def __init__(self, heads: Mapping[str, int], width: int = 64) -> None:
        super().__init__()
        self.backbone = Lite0()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in _TAPS.values())
        self.mixers = nn.ModuleList(
            nn.Sequential(*(Separable(width, kernel) for kernel in kernels))
            for kernels in ((5, 5), (5,), (9, 9), (13, 13))
        )
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, n, 1) for name, n in heads.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an (n, 1, rows, cols) batch of 0..1 pixels to the heads' maps at stride 4."""
        x = ((x - 0.45) / 0.25).expand(-1, 3, -1, -1)
        features = self.backbone(x)
        y: torch.Tensor | None = None
        for level in (3, 2, 1, 0):
            z = self.laterals[level](features[level])
            if y is not None:
                z = z + functional.interpolate(y, scale_factor=2.0, mode="nearest")
            y = self.mixers[level](z)
        assert y is not None
        return {name: head(y) for name, head in self.heads.items()}


def fused(net: nn.Module) -> nn.Module:
    """Fold batch normalisation into the convolutions of `net`, in place, and return it."""
    for module in net.modules():
        if isinstance(module, Lite0):
            _fuse_pair(module, "_conv_stem", "_bn0")
        if isinstance(module, _Block):
            if module.expands:
                _fuse_pair(module, "_expand_conv", "_bn0")
            _fuse_pair(module, "_depthwise_conv", "_bn1")
            _fuse_pair(module, "_project_conv", "_bn2")
    return net.eval()


def _fuse_pair(owner: nn.Module, conv: str, norm: str) -> None:
    setattr(
        owner, conv, fuse_conv_bn_eval(getattr(owner, conv).eval(), getattr(owner, norm).eval())
    )
    setattr(owner, norm, nn.Identity())
