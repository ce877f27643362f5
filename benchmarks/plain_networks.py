"""The forward pass of plain torchvision networks on films: ``python -m benchmarks.plain_networks``.

FCOS ResNet-50 FPN (backbone and head; no box decoding, no suppression of doubles) and LR-ASPP
MobileNetV3-Large, random weights, on films that the node's decoder read, resized as each network's
own preset does (short side 800, at most 1,333; short side 520). Reading and resizing the film is
not counted. Reads ``NAME=PATH`` arguments, prints one JSON line a network and film.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks import torchvision_ops
from node.dicom.pixels import model_input


def main() -> None:
    """Time every network on every film."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("films", nargs="+", help="NAME=PATH")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = torchvision_ops.declare()
    films = dict(film.split("=", 1) for film in options.films)
    for network, (forward, short, longest) in _networks().items():
        for name, path in films.items():
            pixels, _ = model_input(Path(path))
            batch = _resized(torch.from_numpy(pixels)[None, None], short, longest)
            times, cpu_s = _times(forward, batch.expand(-1, 3, -1, -1).contiguous(), options.rounds)
            line = {"network": network, "film": name, "seconds": times, "cpu_s": cpu_s}
            print(json.dumps(line | {"size": list(batch.shape[2:])}), flush=True)
    del kept


def _networks() -> dict[str, tuple[Callable[[torch.Tensor], object], int, int]]:
    """Give each network's forward pass with the short and the longest side of its input."""
    from torchvision.models.detection import fcos_resnet50_fpn
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    fcos = fcos_resnet50_fpn(weights=None, weights_backbone=None).eval()
    lraspp: nn.Module = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    return {
        "FCOS ResNet-50 FPN": (lambda x: fcos.head(list(fcos.backbone(x).values())), 800, 1333),
        "LR-ASPP MobileNetV3-Large": (lraspp, 520, 10**6),
    }


def _resized(film: torch.Tensor, short: int, longest: int) -> torch.Tensor:
    rows, cols = film.shape[2:]
    scale = min(short / min(rows, cols), longest / max(rows, cols))
    size = [max(32, round(side * scale / 32) * 32) for side in (rows, cols)]
    return functional.interpolate(film, size=size, mode="bilinear", align_corners=False)


def _times(
    forward: Callable[[torch.Tensor], object], batch: torch.Tensor, rounds: int
) -> tuple[list[float], float]:
    """Give the seconds of each pass, and the CPU seconds of one on average."""
    seconds = []
    with torch.inference_mode():
        forward(batch)
        before = time.process_time()
        for _ in range(rounds):
            start = time.perf_counter()
            forward(batch)
            seconds.append(time.perf_counter() - start)
    return seconds, (time.process_time() - before) / rounds


if __name__ == "__main__":
    main()
