"""Import torchvision where its compiled operators do not load beside this PyTorch.

Its Python modules register shapes for the operators ``nms`` and ``qnms`` while they are imported
and fail when nobody declared them (a torchvision built for CUDA beside a PyTorch for CPUs). The
plain networks need none of them to run: here they are declared, without a kernel.
"""

from __future__ import annotations

import torch

_OPERATORS = ("nms", "qnms")


def declare() -> torch.library.Library | None:
    """Declare what is missing; keep the answer for as long as torchvision is used."""
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
