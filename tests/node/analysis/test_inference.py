"""The inference process: it answers, it is replaced, it costs nobody else anything."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from models import weights
from node.analysis.inference import InferenceDied, InferenceProcess
from node.analysis.worker import analysis_from_json, analysis_to_json
from node.config import AnalysisSection, ModelSection
from node.domain.findings import (
    Box,
    CariesDepth,
    Finding,
    FindingKind,
    ImageAnalysis,
    Line,
    ModelVersion,
    Polygon,
    QualityKind,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError, InvalidInput

pytest.importorskip("torch")
MODEL = ModelVersion("test", "1", "0" * 64)


def write_image(path: Path, samples: np.ndarray) -> Path:
    """Write a 16-bit grey Secondary Capture."""
    ds = pydicom.Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = samples.shape
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = samples.astype("<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    return write_image(tmp_path / "image.dcm", rng.integers(0, 4096, (300, 400)))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[InferenceProcess]:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "manifest.json").write_text("[]")
    section = AnalysisSection(weights_dir=str(tmp_path / "weights"), threads=1, timeout_s=60)
    opened = InferenceProcess(section)
    yield opened
    opened.close()


def test_without_weights_it_says_what_is_absent(process: InferenceProcess, image: Path) -> None:
    assert process.installed().models == ()
    analysis = process.analyse(image)
    assert analysis.view is None
    assert "triage" in analysis.absent
    assert analysis.findings == ()


def test_unreadable_pixels_are_a_reason_and_the_process_lives_on(
    process: InferenceProcess, image: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(image.read_bytes()[:-1000])
    with pytest.raises(InvalidInput):
        process.analyse(broken)
    before = process.process_id
    process.analyse(image)
    assert process.process_id == before


def test_a_dead_process_is_replaced(process: InferenceProcess, image: Path) -> None:
    process.analyse(image)
    first = process.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while process.process_id is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.analyse(image)
    assert process.process_id not in (None, first)


def test_death_during_an_image_is_retryable(process: InferenceProcess, image: Path) -> None:
    process.installed()
    stopped = process.process_id
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)  # it hangs on the image, then dies
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            process.analyse(image)
        except InferenceDied as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)  # let the request reach the pipe; either order must give the same outcome
    os.kill(stopped, signal.SIGKILL)
    thread.join(90)
    assert len(caught) == 1
    process.analyse(image)


def test_an_image_that_takes_too_long_is_given_up(tmp_path: Path, image: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    process = InferenceProcess(AnalysisSection(weights_dir=str(tmp_path), timeout_s=0.5))
    process.installed()
    assert process.process_id is not None
    os.kill(process.process_id, signal.SIGSTOP)
    with pytest.raises(InferenceDied):
        process.analyse(image)
    process.close()


def empty_weights(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("[]")
    return str(folder)


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_images_that_wait_together_are_asked_together(tmp_path: Path, image: Path) -> None:
    section = AnalysisSection(weights_dir=empty_weights(tmp_path / "none"), timeout_s=60)
    process = InferenceProcess(section, at_once=4)
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(image.read_bytes()[:-1000])
    assert process.installed().at_once == 4
    child = process.process_id
    assert child is not None
    os.kill(child, signal.SIGSTOP)  # so that the others come to wait behind the first
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(process.analyse, path) for path in (image, image, broken, image)]
        wait_for(lambda: process.waiting == 3)
        os.kill(child, signal.SIGCONT)
        outcomes = [future.exception(60) for future in asked]
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        type(None),
        InvalidInput,
        type(None),
    ]
    assert process.process_id == child
    process.close()


def test_a_death_with_several_images_costs_each_its_own_try_only(
    tmp_path: Path, image: Path
) -> None:
    section = AnalysisSection(weights_dir=empty_weights(tmp_path / "none"), timeout_s=60)
    process = InferenceProcess(section, at_once=4)
    process.installed()
    first = process.process_id
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(process.analyse, image) for _ in range(3)]
        wait_for(lambda: process.waiting == 2)
        os.kill(first, signal.SIGKILL)  # the first, alone, dies; then two together
        wait_for(lambda: process.process_id not in (None, first))
        outcomes = [future.exception(60) for future in asked]
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "InferenceDied",
        "NoneType",
        "NoneType",
    ]
    process.close()


def test_a_process_of_shadows_reads_with_the_other_network(tmp_path: Path, image: Path) -> None:
    shipped = {"dir": weights.DEFAULT_DIR, "task": "triage"}
    section = AnalysisSection(weights_dir=empty_weights(tmp_path / "none"), timeout_s=60)
    live = section.model_copy(update={"models": (ModelSection(**shipped),)})
    shadow = ModelSection(**shipped, role="shadow")
    process = InferenceProcess(live, tmp_path / "cache", shadows=[shadow])
    assert process.analyse(image).models == process.analyse(image, shadow=0).models
    assert [model.name for model in process.installed().models] == ["triage"]
    process.close()


def test_wrong_weights_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("not json")
    process = InferenceProcess(AnalysisSection(weights_dir=str(tmp_path)))
    with pytest.raises(ConfigError):
        process.installed()
    process.close()


def test_an_analysis_survives_the_pipe() -> None:
    findings = (
        Finding(
            FindingKind.CARIES,
            Polygon(((1.0, 2.0), (3.0, 4.0), (5.0, 1.0))),
            Tooth("46"),
            (Surface.MESIAL, Surface.OCCLUSAL),
            CariesDepth.D2,
            probability=0.5,
            model=MODEL,
        ),
        Finding(FindingKind.BONE_LEVEL, Line(((0.0, 0.0), (1.0, 9.0))), value_mm=2.5, model=MODEL),
    )
    analysis = ImageAnalysis(
        View.BITEWING,
        0.9,
        (ToothMark(Tooth("17"), Box(0.0, 0.0, 10.0, 20.0), 0.8, MODEL),),
        findings,
        (MODEL,),
        ("panoramic_teeth",),
        ("a note",),
    )
    assert analysis_from_json(analysis_to_json(analysis)) == analysis


def screenshot(folder: Path, name: str, **attributes: str) -> Path:
    """Write a grey film as an RGB picture, a name in its corner if there is one."""
    film = Image.fromarray(np.linspace(40, 90, 400, dtype=np.uint8)[None].repeat(300, axis=0))
    ImageDraw.Draw(film).text((8, 8), name, fill=255, font=ImageFont.load_default(16))
    path = write_image(folder / "film.dcm", np.zeros((300, 400)))
    ds = pydicom.dcmread(path)
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = np.asarray(film.convert("RGB")).tobytes()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def test_a_name_in_the_picture_is_flagged_whatever_the_header_says(
    process: InferenceProcess, tmp_path: Path
) -> None:
    said_no = screenshot(tmp_path, "MUSTER, ERIKA 12.03.1961", BurnedInAnnotation="NO")
    (flag,) = process.analyse(said_no).quality
    assert (flag.kind, flag.is_disqualifying) == (QualityKind.LETTERING, False)
    assert "may name the patient" in flag.detail
    assert process.analyse(screenshot(tmp_path, "")).quality == ()


def test_lettering_that_only_the_sender_knows_of_is_flagged_too(
    process: InferenceProcess, tmp_path: Path
) -> None:
    declared = screenshot(tmp_path, "", BurnedInAnnotation="YES")
    (flag,) = process.analyse(declared).quality
    assert flag.detail.startswith("The sender says")
