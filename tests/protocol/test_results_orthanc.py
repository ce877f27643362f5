"""Results in an archive: Orthanc keeps every object byte for byte, in the patient's study."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from highdicom import sr
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.derived import Composer, derived_uid, encode
from node.dicom.measurements import ReportedFinding
from node.dicom.presentation import compose_presentation
from node.dicom.rejection import compose_of_interest
from node.dicom.results import (
    Algorithms,
    compose_annotated,
    compose_preliminary_sr,
    compose_signed_sr,
)
from node.dicom.segmentation import compose_segmentation
from node.dicom.send import send_object, send_paths
from node.domain.findings import CariesDepth, DecisionState, Finding, FindingKind, Line, Polygon
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Surface, Tooth
from tests.protocol.conftest import program

pytestmark = pytest.mark.protocol

STUDY = "1.2.826.0.1.3680043.10.7.1"
COMPOSER = Composer(derived_uid("device", "orthanc"), "Zahnärzte am Markt", "0.1.0")
AT = datetime(2026, 3, 4, 15, 30, 12, tzinfo=UTC)


def image() -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.3"
    ds.SOPInstanceUID = f"{STUDY}.1.1"
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = f"{STUDY}.1"
    ds.PatientName = "Müller^Jörg"
    ds.PatientID = "1234"
    ds.Modality = "IO"
    ds.Rows, ds.Columns = 120, 160
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = bytes(120 * 160)
    return ds


CARIES = Finding(
    FindingKind.CARIES,
    Polygon(((30.0, 30.0), (50.0, 32.0), (40.0, 45.0))),
    Tooth("16"),
    (Surface.DISTAL,),
    CariesDepth.D1,
    probability=0.8,
)
BONE = Finding(
    FindingKind.BONE_LEVEL, Line(((70.0, 50.0), (71.0, 60.0))), Tooth("46"), value_mm=3.0
)


def review() -> SignedReview:
    findings = tuple(
        SignedFinding(f"f{n}", "i1", f"{STUDY}.1.1", "ai", DecisionState.ACCEPTED, finding, None)
        for n, finding in enumerate((CARIES, BONE))
    )
    return SignedReview(
        "s1", STUDY, 1, "u1", "Anna Lin", "dentist", AT, "read", "", "0.1.0",
        (("i1", f"{STUDY}.1.1"),), findings, (), DecisionCounts(2, 2, 0, 0, 0),
    )  # fmt: skip


def results() -> list[Dataset]:
    early = compose_preliminary_sr(
        [image()],
        [ReportedFinding("f0", f"{STUDY}.1.1", CARIES)],
        generation=1,
        at=AT,
        models=(),
        algorithms=Algorithms.ALL_RAN,
        composer=COMPOSER,
    )
    late = compose_signed_sr(
        [image()], review(), algorithms=Algorithms.ALL_RAN, composer=COMPOSER, predecessor=early
    )
    copy = compose_annotated(
        image(), np.zeros((120, 160), dtype=np.uint8), review(), composer=COMPOSER
    )
    masks = compose_segmentation(image(), review(), composer=COMPOSER)
    films = compose_of_interest([image()], review(), composer=COMPOSER)
    overlay = compose_presentation(image(), review(), composer=COMPOSER)
    return [early, late, copy, masks, films, overlay]


def write_all(folder: Path, objects: list[Dataset]) -> dict[str, bytes]:
    folder.mkdir()
    made = {str(ds.SOPInstanceUID): encode(ds) for ds in objects}
    for number, content in enumerate(made.values()):
        (folder / f"{number}.dcm").write_bytes(content)
    return made


def data_set_of(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_every_result_is_kept_as_it_is_in_the_one_study_of_the_patient(orthanc, tmp_path):
    made = write_all(tmp_path / "out", [image(), *results()])
    for _ in range(2):  # sent again after a lost answer: still one object each
        report = send_paths([tmp_path / "out"], orthanc.peer, calling_ae="BITEWING")
        assert report.failed == report.skipped == ()
        assert len(report.sent) == 7
    kept = {}
    for number, content in enumerate(orthanc.files()):
        path = tmp_path / f"kept-{number}.dcm"
        path.write_bytes(content)
        kept[str(dcmread(path).SOPInstanceUID)] = content
    assert kept.keys() == made.keys()
    for uid, content in made.items():
        assert data_set_of(kept[uid]) == data_set_of(content)
    assert len(orthanc.json("/patients")) == 1
    assert len(orthanc.json("/studies")) == 1
    assert len(orthanc.json("/series")) == 7


def test_findings_can_be_read_back_from_what_the_archive_holds(orthanc, tmp_path):
    early, late, *_ = results()
    write_all(tmp_path / "out", [late])
    send_object(tmp_path / "out" / "0.dcm", orthanc.peer, calling_ae="BITEWING")
    (content,) = orthanc.files()
    path = tmp_path / "kept.dcm"
    path.write_bytes(content)
    report = sr.ComprehensiveSR.from_dataset(dcmread(path))
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert group.tracking_uid == derived_uid("finding", "f0")
    assert group.tracking_identifier == "Caries #3 D D1"
    predecessor = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert predecessor.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == early.SOPInstanceUID


@pytest.mark.parametrize("number", [0, 1], ids=["preliminary", "signed"])
def test_dcmtk_reads_the_report(number, tmp_path):
    path = tmp_path / "report.dcm"
    path.write_bytes(encode(results()[number]))
    done = subprocess.run(
        [program("dsrdump", "/usr/bin/dsrdump"), "+U8", "-Er", str(path)],
        capture_output=True,
        timeout=30,
        check=False,
    )
    text = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert not [line for line in done.stderr.decode().splitlines() if line.startswith("E:")]
    assert "Imaging Measurement Report" in text
    assert "Caries #3 D D1" in text
    assert "Outer third of dentin" in text
    flags = re.search(r"Verification Flag\s*: (\w+)", text)
    assert flags[1] == ("UNVERIFIED", "VERIFIED")[number]
