"""Runtimes and devices: whatever runs the networks, they say the same."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import logging
import threading
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")

from models import runtime
from models.backbone import DenseNet, fused
from models.runtime import Options
from models.runtime_batching import together
from node.domain.findings import ModelVersion
from node.errors import ConfigError

NEEDS = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
SIZE = (64, 96)
VERSION = ModelVersion("triage", "1.0.0", "f" * 64)


@dataclass(frozen=True)
class Model:
    """A model as the pipeline's are: networks in fields beside plain values."""

    net: torch.nn.Module
    threshold: float
    version: ModelVersion = VERSION

    def read(self, pixels):
        with torch.inference_mode():
            return self.net(pixels.to(runtime.device_of(self.net)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    return fused(DenseNet({"centre": 2, "view": 4}))


def films(count=1, seed=1):
    return torch.rand((count, 1, *SIZE), generator=torch.Generator().manual_seed(seed))


def engine(name):
    missing = [need for need in NEEDS[name] if find_spec(need) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    return name


def refusals(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "bitewing.models"]


def same(a, b):
    assert a.keys() == b.keys()
    for name, expected in a.items():
        gap = (expected - b[name].cpu()).abs() / expected.abs().clamp(min=1)
        assert float(gap.max()) <= runtime.TOLERANCE, name


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_faster_runtime_agrees_with_pytorch(net, name, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        model = runtime.prepare(Model(net, 0.5), Options(engine(name), threads=1, cache=tmp_path))
        for count in (1, 3):
            same(Model(net, 0.5).read(films(count)), model.read(films(count)))
    assert not refusals(caplog)
    (kept,) = [path for path in tmp_path.iterdir() if path.is_dir()]

    def stamps():
        return {file: file.stat().st_mtime_ns for file in kept.iterdir()}

    before = stamps()
    again = runtime.prepare(Model(net, 0.5), Options(name, threads=1, cache=tmp_path))
    same(Model(net, 0.5).read(films()), again.read(films()))
    assert stamps() == before, "the kept export is used again"


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_damaged_export_is_made_again(net, name, tmp_path, caplog):
    options = Options(engine(name), threads=1, cache=tmp_path)
    runtime.prepare(Model(net, 0.5), options).read(films())
    for file in tmp_path.rglob("network.*"):
        file.write_bytes(b"not a network")
    with caplog.at_level(logging.WARNING):
        same(Model(net, 0.5).read(films()), runtime.prepare(Model(net, 0.5), options).read(films()))
    assert not refusals(caplog)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_an_export_that_disagrees_is_refused_in_the_log(net, name, tmp_path, caplog):
    options = Options(engine(name), threads=1, cache=tmp_path)

    class Fickle(torch.nn.Module):
        """Says something else when it is exported than when it is run."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, pixels):
            is_export = torch.jit.is_tracing() or torch.compiler.is_exporting()
            return {"centre": self.net(pixels)["centre"] + (0.01 if is_export else 0.0)}

    fickle = Model(Fickle(), 0.5)
    with caplog.at_level(logging.WARNING):
        same(fickle.read(films()), runtime.prepare(fickle, options).read(films()))
    (said,) = refusals(caplog)
    assert "is not used for triage 1.0.0" in said
    with caplog.at_level(logging.WARNING):
        same(fickle.read(films()), runtime.prepare(fickle, options).read(films()))
    assert refusals(caplog) == [said], "the next start does not try again"


def test_auto_gives_what_pytorch_gives_with_whatever_is_installed(net, tmp_path):
    model = runtime.prepare(Model(net, 0.5), Options("auto", threads=1, cache=tmp_path))
    same(Model(net, 0.5).read(films()), model.read(films()))
    assert model.threshold == 0.5


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_named_runtime_that_is_not_installed_is_refused(net, name):
    if all(find_spec(need) for need in NEEDS[name]):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match=rf"bitewing\[{name}\]"):
        runtime.prepare(Model(net, 0.5), Options(name))


def test_a_gpu_that_is_not_there_is_refused(net):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="no GPU"):
        runtime.prepare(Model(net, 0.5), Options(device="cuda"))
    assert runtime.device("auto").type == "cpu"


def test_cpu_and_gpu_agree(net):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device: whether CPU and GPU agree was not checked")
    on_cpu = runtime.prepare(Model(net, 0.5), Options("torch", "cpu")).read(films(2))
    same(on_cpu, runtime.prepare(Model(net, 0.5), Options("torch", "cuda")).read(films(2)))


def test_images_read_together_say_what_each_says_alone(net):
    model = runtime.prepare(Model(net, 0.5), Options("torch", "cpu"))
    batches = []
    model.net.net.register_forward_hook(lambda _, given, __: batches.append(len(given[0])))
    items = [films(1, seed) for seed in range(3)]
    alone = [model.read(item) for item in items]
    batches.clear()

    found = together(model.read, items)

    assert batches == [3]
    for one, other in zip(alone, found, strict=True):
        same(one, other)


def test_networks_within_parts_of_a_model_are_found(net):
    @dataclass(frozen=True)
    class Whole:
        masks: Model | None
        tags: Model
        version: ModelVersion = VERSION

    whole = runtime.prepare(Whole(None, Model(net, 0.5)), Options("torch", "cpu"))
    assert whole.masks is None
    assert isinstance(whole.tags.net, runtime.Runner)
    same(Model(net, 0.5).read(films()), whole.tags.read(films()))


def test_an_image_that_fails_leaves_the_others_alone(net):
    model = runtime.prepare(Model(net, 0.5), Options("torch", "cpu"))

    def read(seed):
        if seed == 1:
            raise ValueError("bad film")
        first = model.read(films(1, seed))
        if seed == 2:
            raise ValueError("bad second half")
        return first, model.read(films(1, seed + 10))

    found = together(read, [0, 1, 2, 3])
    assert [type(one) for one in found] == [tuple, ValueError, ValueError, tuple]
    same(model.read(films(1, 13)), found[3][1])


def test_a_batch_that_does_not_fit_runs_one_by_one(net):
    class Small(torch.nn.Module):
        """A network that cannot take more than one image."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, pixels):
            if len(pixels) > 1:
                raise RuntimeError("out of memory")
            return self.net(pixels)

    model = runtime.prepare(Model(Small(), 0.5), Options("torch", "cpu"))
    found = together(model.read, [films(1, 1), films(1, 2)])
    same(model.read(films(1, 2)), found[1])


def test_images_of_several_sizes_are_read_together(net):
    model = runtime.prepare(Model(net, 0.5), Options("torch", "cpu"))
    items = [films(1, 1), films(1, 2).transpose(2, 3).contiguous()]
    before = set(threading.enumerate())
    found = together(model.read, items)
    for item, one in zip(items, found, strict=True):
        same(model.read(item), one)
    assert set(threading.enumerate()) <= before
