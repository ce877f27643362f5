"""Where and with what the networks run: CPU or GPU, PyTorch or a faster runtime.

OpenVINO and ONNX Runtime are optional. A network is exported from the very weights that PyTorch
loaded, kept under their digest, and used only after it agreed with PyTorch on a test input; else a
line in the log says so and PyTorch goes on.

Tolerance: outputs before their sigmoid or softmax may differ by :data:`TOLERANCE` (relative above
1), so that no probability moves by more than 0.001. The same holds between CPU and GPU.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import nn

from models import runtime_engines
from models.runtime_batching import Gathering
from models.runtime_engines import Engine, Session
from node.domain.findings import ModelVersion
from node.errors import ConfigError

log = logging.getLogger("bitewing.models")

TOLERANCE = 1e-3
#: Another runtime takes over on `auto` only when it needs at most this share of PyTorch's time.
_WORTH_IT = 0.9
_TRIES = 5

RuntimeName = Literal["auto", "torch", "onnxruntime", "openvino"]
DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Options:
    """How networks run: ``cache`` keeps exported networks between starts, None for this one only.

    ``runtime`` auto takes the installed one where it is faster than PyTorch, measured at the first
    run; a name takes that one. It plays no part on a GPU.
    """

    runtime: RuntimeName = "auto"
    device: DeviceName = "auto"
    threads: int = 2
    cache: Path | None = None


def device(name: DeviceName = "auto") -> torch.device:
    """Choose where networks run: the GPU when there is one, unless the CPU is asked for.

    Raises ConfigError when a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("[analysis] device is cuda, but PyTorch finds no GPU; set it to auto")
    is_gpu = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if is_gpu else "cpu")


def device_of(net: nn.Module) -> torch.device:
    """Tell where a network's input belongs."""
    return next(net.parameters()).device


class Model(Protocol):
    """A network class of the pipeline: a dataclass whose fields hold its networks."""

    @property
    def version(self) -> ModelVersion:
        """Which weights these are."""


M = TypeVar("M", bound=Model)


def prepare(model: M, options: Options) -> M:
    """Put every network of a model where `options` say, behind a :class:`Runner`.

    Networks are looked for in its fields and in dataclasses within them. Raises ConfigError for a
    device or runtime that is not there.
    """
    where = device(options.device)
    engines = () if where.type == "cuda" else runtime_engines.installed(options.runtime)
    name, digest = str(model.version), model.version.digest

    def wrapped(value: object, place: str) -> object:
        if isinstance(value, nn.Module):
            return Runner(value.to(where), f"{digest}{place}", name, options, engines)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        held = {field.name: getattr(value, field.name) for field in fields(value)}
        changed = {
            part: new
            for part, old in held.items()
            if (new := wrapped(old, f"{place}-{part}")) is not old
        }
        return replace(value, **changed) if changed else value

    return cast("M", wrapped(model, ""))


class Runner(nn.Module):
    """Stands in for a network: the same call, run by the fastest runtime that agrees with it.

    A network with one image batch (n, channels, rows, cols) in and named maps out is exported at
    the first input of each size; any other goes to PyTorch. Calls made at once from several
    threads inside :func:`together` run as one batch.
    """

    def __init__(
        self, net: nn.Module, key: str, name: str, options: Options, engines: Sequence[Engine]
    ) -> None:
        super().__init__()
        self.net = net
        self._key, self._name, self._options, self._engines = key, name, options, engines
        self._sessions: dict[tuple[int, ...], Session | None] = {}
        self._guard = threading.Lock()

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network."""
        gathering = Gathering.current()
        if gathering is None or len(inputs) != 1:
            return self._run(*inputs)
        return gathering.run(self, inputs[0], self._run)

    def _run(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        is_plain = len(inputs) == 1 and len(inputs[0]) > 0
        session = self._session(inputs[0]) if is_plain and self._engines else None
        if session is not None:
            try:
                maps = session(np.ascontiguousarray(inputs[0].numpy(), dtype=np.float32))
                return {name: torch.from_numpy(map_) for name, map_ in maps.items()}
            except Exception as error:  # noqa: BLE001 - whatever it is, PyTorch can do the work
                log.warning(
                    "%s runs with PyTorch from now on: %s", self._name, type(error).__name__
                )
                self._sessions[tuple(inputs[0].shape[1:])] = None
        answer: dict[str, torch.Tensor] = self.net(*inputs)
        return answer

    def _session(self, pixels: torch.Tensor) -> Session | None:
        size = tuple(pixels.shape[1:])
        with self._guard:
            if size not in self._sessions:
                self._sessions[size] = self._choose(pixels)
            return self._sessions[size]

    def _choose(self, pixels: torch.Tensor) -> Session | None:
        example = _example(tuple(pixels.shape[1:]))
        with torch.inference_mode():
            expected = self.net(example)
        if not isinstance(expected, Mapping):
            return None
        wanted = {name: map_.numpy() for name, map_ in expected.items()}
        for engine in self._engines:
            session = self._open(engine, example, wanted)
            if session is not None and self._is_worth_it(engine, session, example[:1]):
                return session
        return None

    def _is_worth_it(self, engine: Engine, session: Session, one: torch.Tensor) -> bool:
        if self._options.runtime != "auto":
            return True
        pixels = one.numpy()
        theirs = _fastest(lambda: session(pixels))
        with torch.inference_mode():
            mine = _fastest(lambda: self.net(one))
        is_worth = theirs <= _WORTH_IT * mine
        log.info(
            "runtime measured",
            extra={
                "model": self._name,
                "chosen": engine.name if is_worth else "torch",
                "torch_ms": round(mine * 1000, 1),
                f"{engine.name}_ms": round(theirs * 1000, 1),
            },
        )
        return is_worth

    def _open(
        self, engine: Engine, example: torch.Tensor, wanted: Mapping[str, np.ndarray]
    ) -> Session | None:
        size = "x".join(map(str, example.shape[1:]))
        name = f"{self._key}|{size}|{engine.name} {engine.version}|torch {torch.__version__}"
        kept = hashlib.sha256(name.encode()).hexdigest()[:32]
        refused = self._options.cache / f"{kept}.refused" if self._options.cache else None
        if refused is not None and refused.exists():
            return None
        for is_fresh in (False, True):
            try:
                session = engine.open(
                    self.net, example, self._options.cache, kept, self._options.threads, is_fresh
                )
                gap = _gap(wanted, session(example.numpy()))
            except Exception as error:  # noqa: BLE001 - whatever it is, PyTorch can do the work
                gap, words = float("inf"), type(error).__name__
            else:
                words = f"differs by {gap:.2g}"
            if gap <= TOLERANCE:
                return session
        log.warning("%s is not used for %s: %s", engine.name, self._name, words)
        if refused is not None:  # other weights or versions have another name
            refused.parent.mkdir(parents=True, exist_ok=True)
            refused.write_text(words)
        return None


def _example(size: tuple[int, ...]) -> torch.Tensor:
    """Make two test images: noise, and a soft shape with a bright bar as metal is."""
    random = torch.rand((2, *size), generator=torch.Generator().manual_seed(7))
    ramp = torch.linspace(0, 1, size[-1]).expand(size)
    random[1] = 0.8 * ramp + 0.2 * random[1]
    random[1, ..., size[-1] // 3 : size[-1] // 3 + 8] = 1.0
    return random


def _gap(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> float:
    """Give the largest difference, relative where the expected value is above 1."""
    if set(expected) != set(got):
        return float("inf")
    gaps = [
        float(np.max(np.abs(map_ - got[name]) / np.maximum(np.abs(map_), 1.0)))
        for name, map_ in expected.items()
        if map_.shape == got[name].shape
    ]
    return max(gaps) if len(gaps) == len(expected) and np.isfinite(gaps).all() else float("inf")


def _fastest(call: Callable[[], object]) -> float:
    """Give the least of some timings, seconds: what the others add is the machine's other work."""
    call()
    return min(_timings(call))


def _timings(call: Callable[[], object]) -> Iterator[float]:
    for _ in range(_TRIES):
        start = time.perf_counter()
        call()
        yield time.perf_counter() - start
