"""Complete prescriptions of every kind, and the facts around them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from node.domain.teeth import Arch, Tooth
from orchestration.labs.prescription import (
    Clasp,
    Denture,
    FileKind,
    FileRef,
    Framework,
    Implant,
    Joining,
    Laboratory,
    LabRx,
    Margin,
    Occlusion,
    Office,
    Part,
    Pontic,
    Prescriber,
    Proximal,
    Records,
    Restoration,
    Shade,
    Unit,
    Wearer,
)
from orchestration.labs.validation import CaseFacts

TODAY = date(2026, 11, 2)  # a Monday
ZONE = ZoneInfo("America/New_York")


def file(name: str, kind: FileKind, size_bytes: int = 1000) -> FileRef:
    return FileRef(name, kind, "ab" * 32, size_bytes)


def units(*numbers: str, part: Part = Part.SINGLE, surfaces: str = "") -> tuple[Unit, ...]:
    return tuple(Unit(Tooth.from_universal(number), part, surfaces) for number in numbers)


SCANS = (
    file("prep.stl", FileKind.SCAN),
    file("opposing.stl", FileKind.OPPOSING_SCAN),
    file("bite.stl", FileKind.BITE_SCAN),
)

CROWN = LabRx(
    case_number="BW-1001",
    written_on=TODAY,
    restoration=Restoration.CROWN,
    office=Office("Maple Street Dental", "1 Maple Street, Springfield", "(555)010-0000", "Pat"),
    dentist=Prescriber("1", "Ada Marsh DDS", "DDS-12345", "NY"),
    lab=Laboratory("sandbox", "Sandbox laboratory"),
    patient=Wearer("41"),
    procedure_codes=("D2740",),
    stage="final",
    units=units("19"),
    arch=Arch.LOWER,
    material="zirconia_monolithic",
    thickness_mm=1.2,
    shade=Shade("vita_classical", "A2", "ND3"),
    margin=Margin("chamfer", "equigingival"),
    occlusion=Occlusion(contact="light"),
    proximal=Proximal("normal"),
    records=Records("scan", "scan", "scan"),
    due_at=datetime(2026, 11, 17, 21, tzinfo=UTC),
    seat_at=datetime(2026, 11, 19, 15, tzinfo=UTC),
    seat_appointment_key="9011",
    shipping="courier",
    infection_control="Impressions disinfected",
    attachments=SCANS,
)

COMPLETE: dict[Restoration, LabRx] = {
    Restoration.CROWN: CROWN,
    Restoration.BRIDGE: replace(
        CROWN,
        restoration=Restoration.BRIDGE,
        units=(
            *units("18", part=Part.RETAINER),
            *units("19", part=Part.PONTIC),
            *units("20", part=Part.RETAINER),
        ),
        pontic=Pontic("ovate", "light"),
        joining=Joining("rigid"),
    ),
    Restoration.VENEER: replace(
        CROWN,
        restoration=Restoration.VENEER,
        units=units("8", "9"),
        arch=Arch.UPPER,
        material="lithium_disilicate",
        records=Records("scan", "scan", "scan", wax_up="scan"),
        attachments=(*SCANS, file("smile.jpg", FileKind.PHOTO)),
    ),
    Restoration.INLAY_ONLAY: replace(
        CROWN, restoration=Restoration.INLAY_ONLAY, units=units("19", surfaces="MOD")
    ),
    Restoration.IMPLANT_CROWN: replace(
        CROWN,
        restoration=Restoration.IMPLANT_CROWN,
        units=units("19", part=Part.SITE),
        abutment_material="titanium",
        occlusion=Occlusion(contact="light", clearance_um=50.0),
        implant=Implant(
            "Straumann", "Bone Level", "RC", 4.1, "CrossFit", "RC scan body", "Straumann 2024",
            "screw", True, False, 35.0, 3.0, 1.5, "laboratory",
        ),
        attachments=(*SCANS, file("body.stl", FileKind.SCAN_BODY)),
    ),
    Restoration.FULL_DENTURE: replace(
        CROWN,
        restoration=Restoration.FULL_DENTURE,
        units=(),
        arch=Arch.UPPER,
        material="acrylic_processed",
        thickness_mm=None,
        shade=Shade("vita_classical", "A2", gingiva="standard"),
        occlusion=Occlusion(
            scheme="lingualised", vertical_dimension_mm=62.0, centric_relation="rims"
        ),
        denture=Denture(tooth_mould="22E", midline="facial", smile_line="marked", post_dam="ah"),
        records=Records("pvs", "", "rims", rims="wax"),
        stage="wax_try_in",
        attachments=(file("smile.jpg", FileKind.PHOTO),),
        due_at=datetime(2026, 11, 30, 21, tzinfo=UTC),
        seat_at=datetime(2026, 12, 3, 15, tzinfo=UTC),
    ),
    Restoration.PARTIAL_DENTURE: replace(
        CROWN,
        restoration=Restoration.PARTIAL_DENTURE,
        units=units("30", "31", part=Part.REPLACED),
        material="cobalt_chrome",
        thickness_mm=None,
        shade=Shade("vita_classical", "A2", gingiva="standard"),
        occlusion=Occlusion(scheme="group_function"),
        framework=Framework(
            "II", "lingual bar", (Clasp(Tooth("44"), "RPI"),), (Tooth("44"),), "vertical"
        ),
        records=Records("pvs", "model", "registration", cast="altered cast"),
        stage="framework_try_in",
        attachments=(),
        due_at=datetime(2026, 11, 30, 21, tzinfo=UTC),
        seat_at=datetime(2026, 12, 3, 15, tzinfo=UTC),
    ),
    Restoration.NIGHT_GUARD: replace(
        CROWN,
        restoration=Restoration.NIGHT_GUARD,
        units=(),
        arch=Arch.UPPER,
        material="guard_hard",
        thickness_mm=2.0,
        shade=Shade(),
        occlusion=Occlusion(contact="even_bilateral", guidance="canine", opening_mm=2.0),
        parafunction="grinds at night",
    ),
}  # fmt: skip

FACTS = CaseFacts(
    today=TODAY,
    zone=ZONE,
    turnaround_days=8,
    missing_teeth=frozenset({Tooth("36"), Tooth("46"), Tooth("47")}),
)
CROWN_FACTS = replace(FACTS, missing_teeth=frozenset({Tooth("46"), Tooth("47")}))


def facts_for(rx: LabRx) -> CaseFacts:
    """The chart agrees with the work."""
    gone = {*rx.teeth_of(Part.PONTIC), *rx.teeth_of(Part.REPLACED)}
    return replace(FACTS, missing_teeth=frozenset(gone))


def later(rx: LabRx, days: int) -> LabRx:
    assert rx.due_at is not None
    return replace(rx, due_at=rx.due_at + timedelta(days=days))
