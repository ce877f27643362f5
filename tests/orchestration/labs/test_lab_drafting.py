"""Drafts hold what chart and signed findings say for certain, each field with its source."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from node.dicom.instances import FolderStore
from node.domain.findings import (
    Box,
    DecisionState,
    Finding,
    FindingKind,
    ModelVersion,
)
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Arch, Tooth
from node.errors import ConfigError, InvalidInput
from orchestration.labs.drafting import (
    DraftFacts,
    SeatVisit,
    compose_draft,
    due_moment,
    with_clinician,
)
from orchestration.labs.files import kind_of, patient_folder, take_files
from orchestration.labs.prescription import (
    FileKind,
    Laboratory,
    Office,
    Part,
    Prescriber,
    Restoration,
    Shade,
    Source,
    Wearer,
    rx_to_json,
)
from orchestration.labs.procedures import (
    ChartProcedure,
    case_number,
    group,
    group_of,
    load_codes,
)
from tests.orchestration.labs.prescriptions import TODAY, ZONE
from tests.orchestration.labs.test_lab_package import stl

CODES = load_codes()
VISIT = SeatVisit("9011", datetime(2026, 11, 24, 15, tzinfo=UTC))


def procedure(key: str, code: str, tooth: str = "", **values: object) -> ChartProcedure:
    found = Tooth.from_universal(tooth) if tooth else None
    return replace(
        ChartProcedure(key, code, "C", found, "", (), "1", "", TODAY, TODAY),
        **values,  # type: ignore[arg-type]
    )


def facts(*procedures: ChartProcedure, **values: object) -> DraftFacts:
    made = DraftFacts(
        case_number="LC-1", today=TODAY, zone=ZONE, office=Office("Practice"),
        dentist=Prescriber("1", "Ada Marsh DDS", "1", "NY"), lab=Laboratory("sandbox", "Lab"),
        patient=Wearer("41"), procedures=procedures, allergies=("Latex",),
        missing_teeth=frozenset({Tooth("37")}), reviews=(), visit=VISIT, turnaround_days=8,
        holidays=frozenset(), infection_control="disinfected", shipping="courier",
    )  # fmt: skip
    return replace(made, **values)  # type: ignore[arg-type]


def review(*findings: tuple[str, FindingKind]) -> SignedReview:
    signed = [
        SignedFinding(
            f"f{n}", "i", "1.2.3", "ai", DecisionState.ACCEPTED,
            Finding(kind, Box(0, 0, 9, 9), Tooth.from_universal(tooth), probability=0.9,
                    model=ModelVersion("m", "1", "c" * 64)),
            None,
        )
        for n, (tooth, kind) in enumerate(findings)
    ]  # fmt: skip
    counts = DecisionCounts(len(signed), len(signed), 0, 0, 0)
    return SignedReview(
        "s", "1.2", 1, "u", "Marsh", "dentist", datetime(2026, 11, 1, 12, tzinfo=UTC), "st", "",
        "1", (("i", "1.2.3"),), tuple(signed), (), counts,
    )  # fmt: skip


def test_a_crown_takes_tooth_arch_and_visit_and_leaves_the_rest_open() -> None:
    rx = compose_draft(facts(procedure("7", "D2740", "19")), CODES)
    assert rx.restoration is Restoration.CROWN
    assert [str(tooth) for tooth in rx.teeth] == ["36"]
    assert rx.arch is Arch.LOWER
    assert rx.material == ""
    assert rx.shade == Shade()
    assert rx.seat_appointment_key == "9011"
    assert rx.allergies == ("Latex",)
    source = rx.source_of("units")
    assert source is not None
    assert (source.source, source.detail) == (Source.PROCEDURE, "procedure 7")
    assert rx.source_of("shade") is None


@pytest.mark.parametrize(
    ("code", "material"),
    [("D2750", "pfm_high_noble"), ("D2791", "metal_base"), ("D2740", ""), ("D2799", "")],
)
def test_a_material_is_taken_only_where_the_code_names_it(code: str, material: str) -> None:
    assert compose_draft(facts(procedure("7", code, "19")), CODES).material == material


def test_a_bridge_is_one_case_of_retainers_and_pontics() -> None:
    rows = [
        procedure("12", "D6750", "20"), procedure("10", "D6750", "18"),
        procedure("11", "D6240", "19"), procedure("13", "D2740", "3"),
    ]  # fmt: skip
    groups = group(rows, CODES)
    assert [[p.key for p in each] for each in groups] == [["10", "11", "12"], ["13"]]
    rx = compose_draft(facts(*groups[0]), CODES)
    assert [(u.tooth.universal, u.part) for u in rx.units] == [
        ("18", Part.RETAINER), ("19", Part.PONTIC), ("20", Part.RETAINER)
    ]  # fmt: skip
    assert rx.material == "pfm_high_noble"
    names = {case_number("main", "41", group_of(p, CODES)) for p in groups[0]}
    assert len(names) == 1


def test_signed_findings_nearby_are_told_and_never_fill_an_implant() -> None:
    seen = review(
        ("18", FindingKind.CROWN), ("14", FindingKind.IMPLANT), ("19", FindingKind.IMPLANT),
        ("8", FindingKind.CROWN), ("20", FindingKind.CARIES),
    )  # fmt: skip
    rx = compose_draft(facts(procedure("7", "D6058", "19"), reviews=(seen,)), CODES)
    assert rx.restoration is Restoration.IMPLANT_CROWN
    assert rx.implant is None
    assert "implant" not in {source.field for source in rx.sources}
    assert rx.observations == (
        "#18 bears a crown (image finding signed 2026-11-01).",
        "#14 bears an implant (image finding signed 2026-11-01).",
        "Missing in the chart: #18.",
    )


def test_dentures_take_arch_and_the_teeth_they_replace() -> None:
    upper = compose_draft(facts(procedure("7", "D5110")), CODES)
    assert (upper.restoration, upper.arch, upper.units) == (
        Restoration.FULL_DENTURE, Arch.UPPER, ()
    )  # fmt: skip
    row = procedure("7", "D5214", tooth_range=(Tooth("46"), Tooth("47")))
    partial = compose_draft(facts(row), CODES)
    assert partial.arch is Arch.LOWER
    assert partial.teeth_of(Part.REPLACED) == (Tooth("46"), Tooth("47"))


def test_the_due_day_gives_the_laboratory_and_the_visit_their_days() -> None:
    def due(seat: datetime | None, days: int = 8) -> date:
        return due_moment(TODAY, ZONE, days, frozenset(), seat).date()

    assert due(VISIT.starts_at) == date(2026, 11, 20)
    assert due(None) == date(2026, 11, 12)
    assert due(datetime(2026, 11, 5, 15, tzinfo=UTC)) == date(2026, 11, 12)


def test_a_persons_change_has_the_person_as_its_source() -> None:
    before = compose_draft(facts(procedure("7", "D2740", "19")), CODES)
    after = with_clinician(before, replace(before, material="pfm_noble", shipping="digital_only"))
    sources = {each.field: each.source for each in after.sources}
    assert sources["material"] is Source.CLINICIAN
    assert sources["shipping"] is Source.CLINICIAN
    assert sources["units"] is Source.PROCEDURE
    assert after.signature is None


def test_a_procedure_that_is_no_lab_work_makes_no_draft() -> None:
    with pytest.raises(InvalidInput):
        compose_draft(facts(procedure("7", "D1110")), CODES)


def test_a_draft_says_nothing_that_its_facts_do_not() -> None:
    rx = rx_to_json(compose_draft(facts(procedure("7", "D2740", "19")), CODES))
    for name in ("implant", "denture", "framework", "remake", "signature", "thickness_mm"):
        assert rx[name] is None


# --- files ---


def test_files_of_the_patient_are_copied_once_and_by_kind(tmp_path: Path) -> None:
    store, folder = FolderStore(tmp_path / "store"), tmp_path / "41"
    folder.mkdir()
    for name in ("prep.stl", "Opposing.stl", "bite.stl", "scanbody.stl"):
        (folder / name).write_bytes(stl(len(name)))
    (folder / "notes.txt").write_text("x")
    (folder / "cut.stl").write_bytes(stl()[:-1])
    (folder / "link.stl").symlink_to(folder / "prep.stl")
    since = datetime(2020, 1, 1, tzinfo=UTC)
    taken = take_files(store, "main", "lc-1", folder, since, {})
    assert [(ref.name, ref.kind) for ref in taken.refs] == [
        ("Opposing.stl", FileKind.OPPOSING_SCAN), ("bite.stl", FileKind.BITE_SCAN),
        ("prep.stl", FileKind.SCAN), ("scanbody.stl", FileKind.SCAN_BODY),
    ]  # fmt: skip
    assert len(taken.refused) == 1
    assert "cut" not in taken.refused[0].split()[0]
    (folder / "prep.stl").write_bytes(stl(99))
    again = take_files(store, "main", "lc-1", folder, since, taken.keys)
    assert again.refs == ()
    with store.open(taken.keys["prep.stl"]) as file:
        assert file.read() == stl(len("prep.stl"))


def test_older_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "old.stl").write_bytes(stl())
    future = datetime(2100, 1, 1, tzinfo=UTC)
    store = FolderStore(tmp_path / "store")
    assert take_files(store, "main", "lc-1", tmp_path, future, {}).refs == ()
    assert take_files(store, "main", "lc-1", tmp_path / "none", future, {}).refs == ()


@pytest.mark.parametrize("number", ["../41", "", "4/1", "a b", "."])
def test_a_patient_number_leads_nowhere_else(number: str) -> None:
    with pytest.raises(ConfigError):
        patient_folder("/scans", number)
    assert patient_folder("", "41") is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.stl", FileKind.SCAN), ("ScanBody.ply", FileKind.SCAN_BODY), ("antagonist.stl",
      FileKind.OPPOSING_SCAN), ("tab.JPG", FileKind.PHOTO), ("rx.docx", None)],
)  # fmt: skip
def test_kinds_are_read_from_names(name: str, kind: FileKind | None) -> None:
    assert kind_of(name) is kind
