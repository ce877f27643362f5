"""The optional faster runtimes: export a PyTorch network, keep the export, run it."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from node.errors import ConfigError

#: Runs a float32 batch (n, channels, rows, cols); gives the network's maps by name.
Session = Callable[[np.ndarray], dict[str, np.ndarray]]

_NEEDS = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
}


@dataclass(frozen=True, slots=True)
class Engine:
    """One installed runtime: how it exports a network to a file and opens that file."""

    name: str
    version: str
    file: str
    export: Callable[[nn.Module, torch.Tensor, Path], None]
    load: Callable[[Path, Sequence[str], int], Session]

    def open(
        self,
        net: nn.Module,
        example: torch.Tensor,
        cache: Path | None,
        key: str,
        threads: int,
        is_fresh: bool = False,
    ) -> Session:
        """Open the export of `net` for images of `example`'s size, made when it is not kept.

        `cache` is the folder that keeps it under `key`; None keeps nothing. `is_fresh` exports
        anew. A half-written export is never seen: it is renamed into place when complete.
        """
        with torch.inference_mode():
            names = list(net(example[:1]))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) if cache is None else cache / key
            if is_fresh or not (folder / self.file).exists():
                self._make(net, example, folder, is_fresh)
            return self.load(folder / self.file, names, threads)

    def _make(self, net: nn.Module, example: torch.Tensor, folder: Path, is_fresh: bool) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.export(net, example, part / self.file)
            if is_fresh:
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process may have put the same there first
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def installed(name: str) -> tuple[Engine, ...]:
    """Give the runtime that `name` allows: for ``auto`` an installed one, if there is any.

    Raises ConfigError for one that is named and not installed.
    """
    known = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    if name == "torch":
        return ()
    if name == "auto":  # one is enough: each costs memory
        return tuple(make() for engine, make in known.items() if not _missing(engine))[:1]
    if missing := _missing(name):
        raise ConfigError(
            f"[analysis] runtime is {name}, but {', '.join(missing)} is not installed; "
            f"install bitewing[{name}] or set it to auto"
        )
    return (known[name](),)


def _missing(name: str) -> list[str]:
    return [need for need in _NEEDS[name] if importlib.util.find_spec(need) is None]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


# --- OpenVINO ------------------------------------------------------------------------------------


def _openvino() -> Engine:
    return Engine("openvino", _version("openvino"), "network.xml", _openvino_export, _openvino_load)


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Import OpenVINO as if its telemetry package were not there: nothing leaves the practice."""
    kept = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if kept is None:
            del sys.modules["openvino_telemetry"]
        else:
            sys.modules["openvino_telemetry"] = kept


def _openvino_export(net: nn.Module, example: torch.Tensor, path: Path) -> None:
    with _no_telemetry():
        import openvino

        # One image at a time: its networks of open batch size run several times slower.
        shape = openvino.PartialShape([1, *example.shape[1:]])
        model = openvino.convert_model(net, example_input=example[:1], input=[shape])
        openvino.save_model(model, path, compress_to_fp16=False)


def _openvino_load(path: Path, names: Sequence[str], threads: int) -> Session:
    with _no_telemetry():
        import openvino

        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # the rest of the node needs its cores too
        }
        compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        parts = [_numbered(compiled(batch[n : n + 1])) for n in range(len(batch))]
        return {
            name: np.concatenate(maps)
            for name, maps in zip(names, zip(*parts, strict=True), strict=True)
        }

    def _numbered(answer: Any) -> list[np.ndarray]:
        return [np.array(answer[output]) for output in compiled.outputs]

    return run


# --- ONNX Runtime --------------------------------------------------------------------------------


#: The exporter names inner values after operators ("view"), which a head may be called too.
_ONNX_PREFIX = "map_"


def _onnxruntime() -> Engine:
    return Engine("onnxruntime", _version("onnxruntime"), "network.onnx", _onnx_export, _onnx_load)


def _onnx_export(net: nn.Module, example: torch.Tensor, path: Path) -> None:
    with torch.inference_mode():
        names = list(net(example[:1]))
    torch.onnx.export(
        net,
        (example,),
        path,
        dynamo=True,
        input_names=["pixels"],
        output_names=[_ONNX_PREFIX + name for name in names],
        dynamic_shapes=({0: torch.export.Dim("images")},),
        external_data=False,
        verbose=False,
    )


@functools.cache
def _share_memory() -> None:
    """Let the sessions of this process work in one arena: they never run at the same time."""
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    where = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(where, None)


def _onnx_load(path: Path, names: Sequence[str], threads: int) -> Session:
    import onnxruntime

    _share_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool would take the second core from the rest of the node.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = session.run([_ONNX_PREFIX + name for name in names], {"pixels": batch})
        return dict(zip(names, outputs, strict=True))

    return run
