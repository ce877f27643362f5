"""Results as DICOM: valid whatever the source lacks, and saying exactly what was signed."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from highdicom import sr
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from node.dicom import codes
from node.dicom.derived import Composer, derived_uid, encode, person_name
from node.dicom.measurements import ReportedFinding
from node.dicom.results import (
    Algorithms,
    annotated_uid,
    compose_annotated,
    compose_preliminary_sr,
    compose_signed_sr,
    preliminary_sr_uid,
    signed_sr_uid,
)
from node.domain.findings import (
    Box,
    CariesDepth,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Polygon,
)
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput, Rejected, Unsupported

COMPOSER = Composer(derived_uid("device", "test"), "Practice Zürich", "0.1.0")
MODEL = ModelVersion("caries-bitewing", "0.1.0", "ab" * 32)
AT = datetime(2026, 3, 4, 15, 30, 12, 345678, tzinfo=UTC)
ROWS, COLUMNS = 240, 320
STUDY = "1.2.826.0.1.3680043.10.1.1"
IO_IMAGE = "1.2.840.10008.5.1.4.1.1.1.3"
SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
TYPE_2 = [
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "Manufacturer",
]

CARIES = Finding(
    FindingKind.CARIES,
    Polygon(((100.0, 80.0), (120.5, 82.0), (118.0, 99.0))),
    Tooth("16"),
    (Surface.MESIAL, Surface.OCCLUSAL),
    CariesDepth.D1,
    probability=0.92,
    model=MODEL,
)
BONE = Finding(
    FindingKind.BONE_LEVEL,
    Line(((150.0, 100.0), (153.0, 104.0))),
    Tooth("46"),
    (Surface.DISTAL,),
    value_mm=3.24,
    value_percent=22.5,
    probability=0.77,
    model=MODEL,
)


def source(number: int = 1, **changes) -> Dataset:
    """A bitewing as a good sensor sends it; a change to None deletes the attribute."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = IO_IMAGE
    ds.SOPInstanceUID = f"{STUDY}.1.{number}"
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = f"{STUDY}.1"
    ds.PatientName = "Müller^Jörg"
    ds.PatientID = "1234"
    ds.IssuerOfPatientID = "PRACTICE"
    ds.PatientBirthDate = "19700131"
    ds.PatientSex = "M"
    ds.AccessionNumber = "A1"
    ds.StudyID = "7"
    ds.StudyDate = "20260304"
    ds.StudyTime = "101500"
    ds.StudyDescription = "Bitewings"
    ds.ReferringPhysicianName = "Lin^Anna"
    ds.Manufacturer = "Sensor Works"
    ds.DeviceSerialNumber = "S-1"
    ds.Modality = "IO"
    ds.PatientOrientation = ["A", "F"]
    ds.ImagerPixelSpacing = [0.03, 0.03]
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.BitsAllocated = ds.BitsStored = 8
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def grey8() -> np.ndarray:
    return np.tile(np.linspace(0, 255, COLUMNS, dtype=np.uint8), (ROWS, 1))


def signed(number: int, finding: Finding, **changes) -> SignedFinding:
    base = SignedFinding(
        id=f"finding-{number}",
        instance_id="i1",
        sop_instance_uid=f"{STUDY}.1.1",
        origin="ai",
        state=DecisionState.ACCEPTED,
        finding=finding,
        disposition=Disposition.WATCH,
    )
    return replace(base, **changes)


def review(*findings: SignedFinding, **changes) -> SignedReview:
    base = SignedReview(
        study_id="s1",
        study_instance_uid=STUDY,
        version=1,
        signer_id="0123456789abcdef0123456789abcdef",
        signer_name="Dr. Anna Lin",
        signer_role="dentist",
        signed_at=AT,
        statement="I have read the images.",
        reason="",
        software_version="0.1.0",
        instances=(("i1", f"{STUDY}.1.1"), ("i2", f"{STUDY}.1.2")),
        findings=findings,
        models=(MODEL,),
        counts=DecisionCounts(len(findings), len(findings), 0, 0, 0),
    )
    return replace(base, **changes)


def reported(number: int, finding: Finding, image: int = 1) -> ReportedFinding:
    return ReportedFinding(f"finding-{number}", f"{STUDY}.1.{image}", finding)


def preliminary(sources, findings, algorithms=Algorithms.ALL_RAN) -> Dataset:
    return compose_preliminary_sr(
        sources,
        findings,
        generation=1,
        at=AT,
        models=[MODEL],
        algorithms=algorithms,
        composer=COMPOSER,
    )


def final(sources, signed_review, **changes) -> Dataset:
    arguments = {"algorithms": Algorithms.ALL_RAN, "composer": COMPOSER} | changes
    return compose_signed_sr(sources, signed_review, **arguments)


def reread(ds: Dataset) -> Dataset:
    return dcmread(BytesIO(encode(ds)))


def content(ds: Dataset) -> sr.MeasurementReport:
    return sr.ComprehensiveSR.from_dataset(reread(ds)).content


def everything_texts(ds: Dataset) -> str:
    return "\n".join(str(element.value) for element in ds.iterall() if element.VR != "SQ")


def peer_program(name: str, *folders: str) -> str:
    """The path of a program the test needs; missing skips on a laptop and fails in CI."""
    for folder in folders:
        if (Path(folder) / name).exists():
            return str(Path(folder) / name)
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def assert_valid(tmp_path):
    """Check an object with dciodvfy: no line may start with Error."""
    program = peer_program("dciodvfy", str(Path(sys.executable).parent))

    def check(ds: Dataset) -> list[str]:
        path = tmp_path / "object.dcm"
        path.write_bytes(encode(ds))
        done = subprocess.run([program, str(path)], capture_output=True, timeout=60, check=False)
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        errors = [line for line in lines if line.startswith("Error")]
        assert errors == []
        # a private scheme is never a defined term; what the source lacks, a DICOMDIR would lack
        allowed = (codes.LOCAL_SCHEME, "needed to build DICOMDIR")
        return [
            line
            for line in lines
            if line.startswith("Warning") and not any(text in line for text in allowed)
        ]

    return check


SOURCES = {
    "complete": {},
    **{f"without {keyword}": {keyword: None} for keyword in TYPE_2},
    "without all type 2": dict.fromkeys(TYPE_2),
    "without orientation and spacing": {"PatientOrientation": None, "ImagerPixelSpacing": None},
    "inverted": {"PhotometricInterpretation": "MONOCHROME1"},
    "for processing": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.3.1"},
    "CR": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR"},
    "DX panoramic": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "PX"},
    "SC": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": None},
    "lossy": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 12.5,
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
    "lossy, ratio unknown": {"LossyImageCompression": "01"},
    "UTF-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Øвчар^Ἄννα"},
    "Japanese": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    },
    "no charset": {"SpecificCharacterSet": None, "PatientName": "Muller^Jorg"},
    "wild values": {
        "PatientBirthDate": "",
        "PatientSex": "",
        "Modality": "INTRAORAL",
        "PatientOrientation": ["LEFT", ""],
    },
    "with a time zone": {"TimezoneOffsetFromUTC": "-0500"},
}


@pytest.mark.parametrize("changes", SOURCES.values(), ids=SOURCES)
def test_every_object_of_every_kind_of_source_is_valid(changes, assert_valid):
    image = source(**changes)
    early = preliminary([image], [reported(1, CARIES), reported(2, BONE)])
    late = final([image], review(signed(1, CARIES), signed(2, BONE)), predecessor=early)
    copy = compose_annotated(image, grey8(), review(signed(1, CARIES)), composer=COMPOSER)
    for made in (early, late, copy):
        assert assert_valid(made) == []


@pytest.mark.parametrize("kind", FindingKind)
@pytest.mark.parametrize(
    "geometry",
    [Box(-5, -5, 10, 10), Polygon(((1, 1), (400, 1), (400, 300))), Line(((9, 9), (9, 9)))],
    ids=["box", "polygon", "line"],
)
def test_every_kind_and_geometry_is_valid(kind, geometry, assert_valid):
    finding = Finding(kind, geometry, Tooth("85", supernumerary=True), probability=1 / 3)
    ds = preliminary([source()], [reported(1, finding)])
    assert assert_valid(ds) == []
    points = [element.value for element in ds.iterall() if element.keyword == "GraphicData"]
    for x, y in ((x, y) for value in points for x, y in zip(value[::2], value[1::2], strict=True)):
        assert 0 <= x <= COLUMNS
        assert 0 <= y <= ROWS


def test_a_preliminary_report_says_that_it_is_one():
    ds = reread(preliminary([source()], [reported(1, CARIES)]))
    assert (ds.CompletionFlag, ds.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert ds.PreliminaryFlag == "PRELIMINARY"
    assert "PRELIMINARY" in ds.SeriesDescription
    assert "VerifyingObserverSequence" not in ds
    assert "PredecessorDocumentsSequence" not in ds
    assert ds.ContentQualification == "RESEARCH"


def test_a_signed_report_is_verified_by_the_signer_and_names_what_it_replaces():
    early = preliminary([source()], [reported(1, CARIES)])
    ds = reread(final([source()], review(signed(1, CARIES)), predecessor=early))
    assert (ds.CompletionFlag, ds.VerificationFlag) == ("COMPLETE", "VERIFIED")
    assert ds.PreliminaryFlag == "FINAL"
    observer = ds.VerifyingObserverSequence[0]
    assert observer.VerifyingObserverName == "Lin^Anna^^Dr."
    assert observer.VerifyingOrganization == "Practice Zürich"
    assert observer.VerificationDateTime == "20260304153012+0000"
    code = observer.VerifyingObserverIdentificationCodeSequence[0]
    assert code.LongCodeValue == "0123456789abcdef0123456789abcdef"
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == early.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == early.SOPInstanceUID
    assert ds.SOPInstanceUID != early.SOPInstanceUID
    assert ds.SeriesInstanceUID != early.SeriesInstanceUID


def test_patient_and_study_are_those_of_the_image():
    image = source(TimezoneOffsetFromUTC="-0500")
    for made in (
        preliminary([image], []),
        compose_annotated(image, grey8(), review(), composer=COMPOSER),
    ):
        ds = reread(made)
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert str(ds.PatientName) == "Müller^Jörg"
        for keyword in (*TYPE_2[:1], *TYPE_2[2:9], "IssuerOfPatientID", "StudyDescription"):
            assert ds[keyword].value == image[keyword].value
        assert ds.StudyInstanceUID == STUDY
        assert ds.TimezoneOffsetFromUTC == "-0500"
        assert (ds.ContentDate, ds.ContentTime) == ("20260304", "103012")
        assert ds.ContributingEquipmentSequence[0].Manufacturer == "Sensor Works"


def test_the_source_is_left_as_it_was():
    image = source(PatientSex=None)
    before = image.to_json()
    preliminary([image], [reported(1, CARIES)])
    compose_annotated(image, grey8(), review(signed(1, CARIES)), composer=COMPOSER)
    assert image.to_json() == before


def written(image: Dataset, name: bytes) -> Dataset:
    """The image as read from a file whose patient name is these bytes."""
    image.PatientName = "X" * len(name)
    buffer = BytesIO()
    image.save_as(buffer)
    raw = buffer.getvalue().replace(b"X" * len(name), name)
    ds = dcmread(BytesIO(raw), force=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        (None, "utf-8"),
        (None, "latin-1"),
        ("ISO_IR 6", "utf-8"),
        ("ISO_IR 100", "latin-1"),
        ("ISO_IR 192", "utf-8"),
    ],
)
@pytest.mark.parametrize("was_read", [False, True], ids=["untouched", "read before"])
def test_a_name_survives_whatever_its_charset_declares(charset, encoding, was_read):
    image = written(source(SpecificCharacterSet=charset), "Müller^Jörgé".encode(encoding))
    if was_read:
        assert str(image.PatientName)
    assert str(reread(preliminary([image], [])).PatientName) == "Müller^Jörgé"


def test_what_is_not_a_valid_value_is_left_empty():
    image = source()
    for keyword, value in {
        "PatientBirthDate": "31011970",
        "PatientSex": "female",
        "StudyTime": "25:99",
        "AccessionNumber": "A" * 17,
    }.items():
        image[keyword]._value = value
    ds = preliminary([image], [])
    assert (ds.PatientBirthDate, ds.PatientSex, ds.StudyTime) == ("", "", "")
    assert ds.AccessionNumber == ""


def test_a_patient_id_that_cannot_be_copied_is_refused():
    image = source()
    image["PatientID"]._value = "9" * 65
    with pytest.raises(InvalidInput, match="patient ID"):
        preliminary([image], [])


def test_a_lesion_is_a_closed_region_with_its_tooth_depth_and_model():
    groups = content(
        preliminary([source()], [reported(1, CARIES)])
    ).get_planar_roi_measurement_groups()
    (group,) = groups
    assert group.tracking_identifier == "Caries #3 MO D1"
    assert group.tracking_uid == derived_uid("finding", "finding-1")
    assert group.finding_type == Code("80967001", "SCT", "")
    assert group.finding_category.value == "49755003"
    assert [codes.read_tooth(Code(s.value.value, "SCT", "")) for s in group.finding_sites] == [
        Tooth("16")
    ] * 2
    assert [s.topographical_modifier.value for s in group.finding_sites] == ["8483002", "83473006"]
    region = group.roi
    assert region.graphic_type.value == "POLYLINE"
    np.testing.assert_allclose(region.value, [(100, 80), (120.5, 82), (118, 99), (100, 80)])
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == f"{STUDY}.1.1"
    (certainty,) = group.get_measurements()
    assert (certainty.value, certainty.unit.value) == (92.0, "%")
    (depth,) = group.get_qualitative_evaluations(codes.CARIES_DEPTH)
    assert depth.value == codes.depth_code(CariesDepth.D1)
    texts = everything_texts(group[0])
    for expected in ("caries-bitewing", "0.1.0", f"weights_sha256={'ab' * 32}"):
        assert expected in texts


def test_a_bone_level_is_numbers_inferred_from_its_line():
    report = content(preliminary([source()], [reported(1, BONE)]))
    group = report.get_image_measurement_groups(tracking_uid=derived_uid("finding", "finding-1"))[0]
    values = {m.name.value: (m.value, m.unit.value) for m in group.get_measurements()}
    assert values == {
        "410668003": (5.0, "{pixels}"),
        "RBL-MM": (3.24, "mm"),
        "RBL-PCT": (22.5, "%"),
        "111012": (77.0, "%"),
    }
    for measurement in group.get_measurements(codes.BONE_LEVEL_MM):
        (line,) = measurement.referenced_coordinates
        np.testing.assert_allclose(line.value, [(150, 100), (153, 104)])


def test_a_bone_level_without_spacing_has_no_millimetres():
    finding = replace(BONE, value_mm=None, value_percent=None)
    report = content(preliminary([source()], [reported(1, finding)]))
    group = report.get_image_measurement_groups(tracking_uid=derived_uid("finding", "finding-1"))[0]
    assert {m.name.value for m in group.get_measurements()} == {"410668003", "111012"}


@pytest.mark.parametrize(
    ("changes", "is_said"),
    [({}, True), ({"PixelSpacingCalibrationType": "GEOMETRY"}, False)],
    ids=["detector plane", "calibrated"],
)
def test_uncalibrated_millimetres_are_marked_as_such(changes, is_said):
    ds = preliminary([source(**changes)], [reported(1, BONE)])
    assert ("not calibrated" in everything_texts(ds)) == is_said


def test_a_finding_keeps_its_tracking_uid_from_suggestion_to_signature():
    early = content(preliminary([source()], [reported(1, CARIES)]))
    edited = signed(1, replace(CARIES, depth=CariesDepth.D2), state=DecisionState.EDITED)
    late = content(final([source()], review(edited)))
    (before,) = early.get_planar_roi_measurement_groups()
    (after,) = late.get_planar_roi_measurement_groups()
    assert before.tracking_uid == after.tracking_uid


def test_a_decision_is_told_and_a_persons_mark_has_no_algorithm():
    own = replace(CARIES, probability=None, model=None)
    ds = final(
        [source()],
        review(
            signed(1, CARIES),
            signed(2, CARIES, state=DecisionState.EDITED, comment="Larger than marked"),
            signed(3, own, origin="human"),
        ),
    )
    accepted, edited, added = content(ds).get_planar_roi_measurement_groups()

    def decision(group):
        return group.get_qualitative_evaluations(codes.DECISION)[0].value.value

    assert [decision(g) for g in (accepted, edited, added)] == ["ACCEPTED", "EDITED", "ADDED"]
    # the probability is that of the suggestion, not of what a person changed or drew
    assert [len(g.get_measurements()) for g in (accepted, edited, added)] == [1, 0, 0]
    assert "Larger than marked" in everything_texts(edited[0])
    assert "Algorithm Name" not in everything_texts(added[0])
    assert "Algorithm Name" in everything_texts(edited[0])


@pytest.mark.parametrize(
    ("algorithms", "findings", "expected"),
    [
        (Algorithms.ALL_RAN, [], "111241"),
        (Algorithms.ALL_RAN, [reported(1, CARIES)], "111242"),
        (Algorithms.SOME_RAN, [], "111243"),
        (Algorithms.SOME_RAN, [reported(1, CARIES)], "111244"),
        (Algorithms.NONE_RAN, [], "111245"),
    ],
)
def test_silence_is_never_mistaken_for_nothing_found(algorithms, findings, expected, assert_valid):
    ds = preliminary([source(1), source(2)], findings, algorithms)
    assert assert_valid(ds) == []
    groups = content(ds).get_image_measurement_groups(tracking_uid=derived_uid("summary", STUDY))
    (summary,) = groups[0].get_qualitative_evaluations(SUMMARY)
    assert summary.value.value == expected
    assert f"weights_sha256={'ab' * 32}" in everything_texts(groups[0][0])


def test_a_signature_without_findings_says_so(assert_valid):
    ds = final([source()], review(counts=DecisionCounts(2, 0, 0, 2, 0)))
    assert assert_valid(ds) == []
    assert "recorded no finding" in everything_texts(ds)
    assert "111242" in everything_texts(ds)  # the algorithms did find; the dentist did not


def test_a_study_without_any_algorithm_can_be_signed(assert_valid):
    own = replace(CARIES, probability=None, model=None)
    ds = final(
        [source()],
        review(signed(1, own, origin="human"), models=()),
        algorithms=Algorithms.NONE_RAN,
    )
    assert assert_valid(ds) == []
    assert "111245" in everything_texts(ds)


def test_all_images_are_evidence_grouped_by_series():
    other = source(2, SeriesInstanceUID=f"{STUDY}.2")
    ds = preliminary([source(1), other, source(1)], [reported(1, CARIES, 2)])
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == STUDY
    listed = {
        series.SeriesInstanceUID: [item.ReferencedSOPInstanceUID for item in series[0x00081199]]
        for series in study.ReferencedSeriesSequence
    }
    assert listed == {f"{STUDY}.1": [f"{STUDY}.1.1"], f"{STUDY}.2": [f"{STUDY}.1.2"]}


def test_composing_again_gives_the_same_bytes():
    def make():
        early = preliminary([source()], [reported(1, CARIES), reported(2, BONE)])
        signed_review = review(signed(1, CARIES), signed(2, BONE))
        return [
            encode(ds)
            for ds in (
                early,
                final([source()], signed_review, predecessor=early),
                compose_annotated(source(), grey8(), signed_review, composer=COMPOSER),
            )
        ]

    assert make() == make()


def test_uids_are_known_beforehand_and_differ_by_version_generation_image_and_node():
    other = replace(COMPOSER, device_uid=derived_uid("device", "other"))
    one = review()
    uids = [
        uid
        for composer in (COMPOSER, other)
        for uid in (
            preliminary_sr_uid(STUDY, 1, composer),
            preliminary_sr_uid(STUDY, 2, composer),
            signed_sr_uid(one, composer),
            signed_sr_uid(replace(one, version=2), composer),
            annotated_uid(one, f"{STUDY}.1.1", composer),
            annotated_uid(one, f"{STUDY}.1.2", composer),
        )
    ]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 64 for uid in uids)
    assert preliminary([source()], []).SOPInstanceUID == uids[0]
    assert final([source()], one).SOPInstanceUID == uids[2]
    copy = compose_annotated(source(), grey8(), one, composer=COMPOSER)
    assert copy.SOPInstanceUID == uids[4]


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "other"},
        {"IssuerOfPatientID": "other"},
        {"StudyInstanceUID": f"{STUDY}.9"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_images_of_two_patients_or_studies_are_never_one_report(change):
    with pytest.raises(InvalidInput):
        preliminary([source(1), source(2, **change)], [])


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(InvalidInput, match="none of the images"):
        preliminary([source(1)], [reported(1, CARIES, 2)])
    with pytest.raises(InvalidInput, match="at least one image"):
        preliminary([], [])
    elsewhere = review(study_instance_uid=f"{STUDY}.9")
    with pytest.raises(InvalidInput, match="different studies"):
        final([source()], elsewhere)
    old = preliminary([source()], [])
    old.StudyInstanceUID = f"{STUDY}.9"
    with pytest.raises(InvalidInput, match="different study"):
        final([source()], review(), predecessor=old)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "Rows", "SOPClassUID"])
def test_a_source_without_identity_or_pixels_is_refused(keyword):
    with pytest.raises(InvalidInput):
        preliminary([source(**{keyword: None})], [])


def test_an_image_of_a_private_class_is_unsupported():
    with pytest.raises(Unsupported, match="SOP class"):
        preliminary([source(SOPClassUID="1.2.3.4.5")], [reported(1, CARIES)])


@pytest.mark.parametrize(
    "not_signed",
    [
        {"version": 0},
        {"signer_id": ""},
        {"signer_name": " "},
        {"findings": (signed(1, CARIES, state=DecisionState.SUGGESTED),)},
        {"findings": (signed(1, CARIES, state=DecisionState.REJECTED),)},
    ],
    ids=["version 0", "no signer", "no name", "suggested", "rejected"],
)
def test_nothing_unsigned_is_published_as_signed(not_signed):
    unsigned = review(**not_signed)
    with pytest.raises(Rejected):
        final([source()], unsigned)
    with pytest.raises(Rejected):
        compose_annotated(source(), grey8(), unsigned, composer=COMPOSER)


def test_the_annotated_copy_keeps_every_pixel_away_from_the_marks_and_adds_a_strip():
    ds = reread(compose_annotated(source(), grey8(), review(signed(1, CARIES)), composer=COMPOSER))
    picture = ds.pixel_array
    assert ds.PhotometricInterpretation == "RGB"
    assert picture.shape[0] > ROWS
    assert picture.shape[1:] == (COLUMNS, 3)
    film = picture[:ROWS]
    unchanged = (film == grey8()[..., None]).all(axis=-1)
    assert unchanged[130:].all()
    assert unchanged[:, 200:].all()
    colour = (film == (0xF2, 0x8E, 0x00)).all(axis=-1)
    assert colour[82:98, 100:122].any()  # the outline
    assert colour[:80, 100:].any()  # its label above
    assert (picture[ROWS:].max(axis=(1, 2)) > 150).any()  # the strip has text


def test_the_annotated_copy_shows_only_the_findings_of_its_own_image():
    other = signed(1, CARIES, sop_instance_uid=f"{STUDY}.1.2")
    ds = reread(compose_annotated(source(), grey8(), review(other), composer=COMPOSER))
    film = ds.pixel_array[:ROWS]
    assert (film == grey8()[..., None]).all()


def test_the_annotated_copy_says_what_it_was_made_of():
    ds = reread(compose_annotated(source(2), grey8(), review(signed(1, CARIES)), composer=COMPOSER))
    item = ds.SourceImageSequence[0]
    assert item.ReferencedSOPInstanceUID == f"{STUDY}.1.2"
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert item.SpatialLocationsPreserved == "YES"
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert (ds.ConversionType, ds.BurnedInAnnotation) == ("WSD", "YES")
    assert (ds.Modality, ds.InstanceNumber) == ("IO", 2)
    assert ds.LossyImageCompression == "00"
    assert "AI-assisted" in ds.SeriesDescription


def test_a_lossy_source_stays_marked_lossy():
    jpeg = source()
    jpeg.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    for image in (jpeg, source(LossyImageCompression="01", LossyImageCompressionRatio=12.5)):
        ds = compose_annotated(image, grey8(), review(), composer=COMPOSER)
        assert ds.LossyImageCompression == "01"
    assert ds.LossyImageCompressionRatio == 12.5


def test_an_image_outside_the_review_or_of_another_size_has_no_annotated_copy():
    with pytest.raises(Rejected, match="not part"):
        compose_annotated(source(9), grey8(), review(), composer=COMPOSER)
    with pytest.raises(InvalidInput, match="size"):
        compose_annotated(source(), grey8()[:-1], review(), composer=COMPOSER)


def test_a_signer_whose_name_the_font_lacks_is_named_by_id(assert_valid):
    ds = compose_annotated(source(), grey8(), review(signer_name="山田太郎"), composer=COMPOSER)
    assert assert_valid(ds) == []
    assert assert_valid(final([source()], review(signer_name="山田太郎"))) == []


def test_an_image_from_an_implicit_little_endian_file_is_valid_too(assert_valid):
    buffer = BytesIO()
    image = source()
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.save_as(buffer, implicit_vr=True)
    image = dcmread(BytesIO(buffer.getvalue()), force=True)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert assert_valid(preliminary([image], [reported(1, CARIES)])) == []


def test_times_are_written_in_the_practices_zone_unless_the_image_has_its_own():
    composer = replace(COMPOSER, time_zone=timezone(timedelta(hours=2)))
    ds = final([source()], review(), composer=composer)
    assert ds.TimezoneOffsetFromUTC == "+0200"
    assert ds.ContentTime == "173012"
    assert ds.VerifyingObserverSequence[0].VerificationDateTime == "20260304173012+0200"


def test_texts_of_people_are_written_safely(assert_valid):
    composer = replace(COMPOSER, practice_name="Smith\\Jones\x1b Dental " + "x" * 80)
    findings = review(signed(1, CARIES, comment="Line one\nline two\x00\x1b <b>"))
    ds = final([source()], findings, composer=composer)
    assert assert_valid(ds) == []
    assert ds.InstitutionName.startswith("Smith Jones")
    assert "Line one\nline two <b>" in everything_texts(reread(ds)).replace("  ", " ")


def test_results_and_image_agree_about_patient_and_study(tmp_path):
    program = peer_program("dcentvfy", str(Path(sys.executable).parent))
    image = source(SpecificCharacterSet="ISO_IR 192", HighBit=7, PixelRepresentation=0)
    image.PixelData = bytes(ROWS * COLUMNS)
    early = preliminary([image], [reported(1, CARIES)])
    late = final([image], review(signed(1, CARIES)), predecessor=early)
    copy = compose_annotated(image, grey8(), review(signed(1, CARIES)), composer=COMPOSER)
    paths = []
    for number, ds in enumerate((image, early, late, copy)):
        paths.append(str(tmp_path / f"{number}.dcm"))
        Path(paths[-1]).write_bytes(encode(ds))
    done = subprocess.run([program, *paths], capture_output=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    assert [line for line in lines if line.startswith("Error")] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna Lin", "Lin^Anna"),
        ("Dr. Anna Maria Lin, DDS", "Lin^Anna Maria^^Dr.^DDS"),
        ("Lin", "Lin^"),
        ("Lin^Anna", "Lin^Anna"),
        ("Anna=Lin\\x", "x^Anna Lin"),
    ],
)
def test_a_display_name_becomes_a_person_name(text, expected):
    assert person_name(text) == expected
