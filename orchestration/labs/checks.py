"""Checks that compare several fields of a prescription with each other, the chart and the clock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch, Tooth
from orchestration.labs.prescription import LabRx, Part, Restoration
from orchestration.labs.rulebook import LabPack, Material, Rulebook
from orchestration.labs.validation import CaseFacts, Check, CrossCheck, Level
from orchestration.labs.workdays import add_workdays

_SHADES = {
    "vita_classical": (r"A[1-4]|A3\.5|B[1-4]|C[1-4]|D[2-4]", "A1-A4, A3.5, B1-B4, C1-C4 or D2-D4"),
    "vita_3d_master": (
        r"(0M[1-3]|1M[12]|[2-4]M[1-3]|[2-4][LR](1\.5|2\.5)|5M[1-3])",
        "such as 2M2 or 3L1.5",
    ),
    "bleach": (r"BL[1-4]|OM[1-3]|0M[1-3]", "BL1-BL4 or OM1-OM3"),
}
_STUMPS = r"ND[1-9]|" + _SHADES["vita_classical"][0]
_SINGLE = (Restoration.CROWN, Restoration.IMPLANT_CROWN)
_FIXED = (*_SINGLE, Restoration.VENEER, Restoration.INLAY_ONLAY)
_DENTURES = (Restoration.FULL_DENTURE, Restoration.PARTIAL_DENTURE)
_ROUNDING_MM = 0.01


def _name(tooth: Tooth) -> str:
    return f"tooth #{tooth.universal}"


def _passed(name: str, field: str) -> list[Check]:
    return [Check(name, field, Level.PASSED)]


def _wrong(name: str, field: str, words: str) -> list[Check]:
    return [Check(name, field, Level.WRONG, words)]


def check_units(rx: LabRx, _f: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """Crowns are one tooth a prescription unless splinted; parts fit the work."""
    if not rx.units:
        return []
    if rx.restoration in _SINGLE and len(rx.units) != 1 and not rx.joining.is_splinted:
        return _wrong(
            "units", "units", "a single restoration has one tooth. Write one prescription a tooth, "
            "or mark the units as splinted."
        )  # fmt: skip
    allowed = {
        Restoration.BRIDGE: {Part.RETAINER, Part.PONTIC},
        Restoration.IMPLANT_CROWN: {Part.SITE},
        Restoration.PARTIAL_DENTURE: {Part.REPLACED},
        Restoration.FULL_DENTURE: {Part.REPLACED},
        Restoration.NIGHT_GUARD: set(Part),
    }.get(rx.restoration, {Part.SINGLE})
    if strange := [unit for unit in rx.units if unit.part not in allowed]:
        part = strange[0].part.value
        words = f"{_name(strange[0].tooth)} cannot be a {part} in this work. Correct it."
        return _wrong("units", "units", words)
    return _passed("units", "units")


def check_arch(rx: LabRx, _f: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """All teeth stand in the arch named; one bridge or denture is in one jaw."""
    arches = {tooth.arch for tooth in rx.teeth}
    if len(arches) > 1:
        return _wrong(
            "arch", "units", "the teeth stand in both jaws. Write one prescription a jaw."
        )
    if rx.arch is not None and arches and arches != {rx.arch}:
        words = "the teeth stand in the other jaw. Correct the arch or the teeth."
        return _wrong("arch", "arch", words)
    return _passed("arch", "arch") if rx.arch or arches else []


def check_span(rx: LabRx, _f: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """A bridge's units are neighbours, with a retainer at each end unless it is a cantilever."""
    if rx.restoration is not Restoration.BRIDGE or len({t.arch for t in rx.teeth}) != 1:
        return []
    order = UPPER_ARCH if rx.teeth[0].arch is Arch.UPPER else LOWER_ARCH
    if any(tooth not in order for tooth in rx.teeth):
        return _wrong("span", "units", "a bridge stands on permanent teeth. Correct the teeth.")
    units = sorted(rx.units, key=lambda unit: order.index(unit.tooth))
    places = [order.index(unit.tooth) for unit in units]
    if places != list(range(places[0], places[-1] + 1)):
        gap = next(order[n] for n in range(places[0], places[-1]) if n not in places)
        words = f"the span has a gap at {_name(gap)}. Add it as pontic or retainer."
        return _wrong("span", "units", words)
    retainers = rx.teeth_of(Part.RETAINER)
    if not rx.teeth_of(Part.PONTIC):
        words = "a bridge has at least one pontic. Add it, or order crowns."
        return _wrong("span", "units", words)
    if rx.joining.is_cantilever:
        if retainers:
            return _passed("span", "units")
        return _wrong("span", "units", "a bridge needs a retainer. Add one.")
    if len(retainers) < 2 or units[0].part is Part.PONTIC or units[-1].part is Part.PONTIC:
        words = "a bridge ends on a retainer at both sides. Add it, or mark a cantilever."
        return _wrong("span", "units", words)
    return _passed("span", "units")


def check_pontics(rx: LabRx, facts: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """A pontic or replaced tooth is missing in the chart; a prepared tooth is not."""
    gone, kept = rx.teeth_of(Part.PONTIC) + rx.teeth_of(Part.REPLACED), rx.teeth_of(Part.RETAINER)
    kept += rx.teeth_of(Part.SINGLE)
    if not gone and not kept:
        return []
    if facts.missing_teeth is None:
        words = "the chart does not say which teeth are missing. Compare the teeth yourself."
        return [Check("chart", "units", Level.REMARK, words)]
    if present := [tooth for tooth in gone if tooth not in facts.missing_teeth]:
        words = (
            f"{_name(present[0])} is present in the chart. "
            "Mark it missing there, or correct the work."
        )
        return _wrong("chart", "units", words)
    if absent := [tooth for tooth in kept if tooth in facts.missing_teeth]:
        words = f"{_name(absent[0])} is missing in the chart. Correct the chart or the tooth."
        return _wrong("chart", "units", words)
    return _passed("chart", "units")


def check_shade(rx: LabRx, _f: CaseFacts, _b: Rulebook, pack: LabPack) -> Sequence[Check]:
    """Shades exist in their guide, and the laboratory has the guide."""
    found: list[Check] = []
    guide, value = rx.shade.guide, rx.shade.value.strip()
    if guide in _SHADES and value:
        pattern, example = _SHADES[guide]
        if re.fullmatch(pattern, value):
            found += _passed("shade", "shade.value")
        else:
            words = f"no shade of this guide. Enter one {example}."
            found += _wrong("shade", "shade.value", words)
    if guide and pack.shade_guides and guide not in pack.shade_guides:
        words = f"{pack.label} does not have this guide. Use {', '.join(pack.shade_guides)}."
        found += _wrong("shade_guide", "shade.guide", words)
    if rx.shade.stump and not re.fullmatch(_STUMPS, rx.shade.stump.strip()):
        words = "no stump shade. Enter ND1-ND9 or a Vita Classical shade."
        found += _wrong("stump", "shade.stump", words)
    return found


def check_material(rx: LabRx, _f: CaseFacts, book: Rulebook, pack: LabPack) -> Sequence[Check]:
    """The material exists, fits the work and the place, and the laboratory works with it."""
    if not rx.material:
        return []
    material = book.materials.get(rx.material)
    if material is None:
        words = "not a material of the rules. Choose one of the list."
        return _wrong("material", "material", words)
    problem = next(_material_problems(rx, material, pack), "")
    if problem:
        return _wrong("material", "material", problem)
    if rx.abutment_material and rx.abutment_material not in book.abutments:
        words = f"no abutment material. Choose one of {', '.join(book.abutments)}."
        return _wrong("material", "abutment_material", words)
    remarks = [
        Check("remark", "material", Level.REMARK, text)
        for key, text in pack.remarks
        if key == rx.material
    ]
    return [*_passed("material", "material"), *remarks]


def _material_problems(rx: LabRx, material: Material, pack: LabPack) -> Iterator[str]:
    if rx.restoration not in material.fits:
        yield f"{material.label} is not for this restoration. Choose another material."
    if pack.materials and material.key not in pack.materials:
        yield f"{pack.label} does not work with it. Choose another material or laboratory."
    if material.only_stages and rx.stage and rx.stage not in material.only_stages:
        yield f"{material.label} is for {' or '.join(material.only_stages)} only. Change the stage."
    is_crown = rx.restoration is Restoration.CROWN
    if material.front_crowns_only and is_crown and any(t.is_posterior for t in rx.teeth):
        yield f"{material.label} is too weak for crowns of back teeth. Choose another material."
    if rx.restoration is Restoration.BRIDGE:
        if material.longest_bridge and len(rx.units) > material.longest_bridge:
            yield (
                f"{material.label} carries at most {material.longest_bridge} units. "
                "Choose another material."
            )
        if material.no_molar_pontic and any(t.position >= 6 for t in rx.teeth_of(Part.PONTIC)):
            yield f"{material.label} carries no molar pontic. Choose another material."


def check_thickness(rx: LabRx, _f: CaseFacts, book: Rulebook, _p: LabPack) -> Sequence[Check]:
    """Walls are not thinner than the material bears."""
    material = book.materials.get(rx.material)
    if material is None or rx.thickness_mm is None:
        return []
    is_back = any(tooth.is_posterior for tooth in rx.teeth)
    least = material.min_mm[1 if is_back else 0]
    if rx.thickness_mm < least - _ROUNDING_MM:
        words = (
            f"{rx.thickness_mm:g} mm is less than {material.label} bears ({least:g} mm). "
            "Prepare deeper or choose another material."
        )
        return _wrong("thickness", "thickness_mm", words)
    if is_back and rx.thickness_mm < material.note_below_mm:
        words = (
            f"between {least:g} and {material.note_below_mm:g} mm on a back tooth: "
            "keep the maker's limits."
        )
        return [Check("thickness", "thickness_mm", Level.REMARK, words)]
    return _passed("thickness", "thickness_mm")


def check_allergies(rx: LabRx, _f: CaseFacts, book: Rulebook, _p: LabPack) -> Sequence[Check]:
    """Nothing in the work is what the patient is allergic to."""
    if not rx.allergies:
        return []
    parts = [("material", book.materials.get(rx.material))]
    parts.append(("abutment_material", book.abutments.get(rx.abutment_material)))
    for field_name, material in parts:
        for allergy in rx.allergies:
            words = re.findall(r"[a-z]+", allergy.lower())
            if material and any(word.startswith(a) for word in words for a in material.allergens):
                text = (
                    f"{material.label} may hold what the patient is allergic to. "
                    "Choose another material."
                )
                return _wrong("allergies", field_name, text)
    return _passed("allergies", "allergies")


def check_implant(rx: LabRx, _f: CaseFacts, book: Rulebook, _p: LabPack) -> Sequence[Check]:
    """The platform stands in the library with this connection and diameter."""
    implant = rx.implant
    if implant is None or not (implant.maker and implant.line and implant.platform):
        return []
    known = [
        each
        for each in book.platforms
        if (each.maker.lower(), each.line.lower(), each.platform.lower())
        == (implant.maker.lower(), implant.line.lower(), implant.platform.lower())
    ]
    if not known:
        words = (
            "not in the implant library. Check the record of placement, or add it to the library."
        )
        return _wrong("implant_library", "implant.platform", words)
    if implant.connection and all(
        implant.connection.lower() != each.connection.lower() for each in known
    ):
        words = f"this platform has the connection {known[0].connection}. Correct one of the two."
        return _wrong("implant_library", "implant.connection", words)
    diameters = [mm for each in known for mm in each.diameters_mm]
    if implant.platform_mm is not None and all(
        abs(implant.platform_mm - mm) > _ROUNDING_MM for mm in diameters
    ):
        listed = ", ".join(f"{mm:g}" for mm in diameters)
        words = f"this platform comes in {listed} mm. Check the record of placement."
        return _wrong("implant_library", "implant.platform_mm", words)
    return _passed("implant_library", "implant.platform")


def check_clasps(rx: LabRx, facts: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """Teeth with clasps or rests are there, and are not the ones replaced."""
    if rx.framework is None or not (rx.framework.clasps or rx.framework.rests):
        return []
    held = [*(clasp.tooth for clasp in rx.framework.clasps), *rx.framework.rests]
    gone = set(rx.teeth_of(Part.REPLACED)) | (facts.missing_teeth or frozenset())
    if absent := [tooth for tooth in held if tooth in gone]:
        words = f"{_name(absent[0])} is missing and can carry nothing. Choose another tooth."
        return _wrong("clasps", "framework.clasps", words)
    if rx.arch is not None and any(tooth.arch is not rx.arch for tooth in held):
        words = "a clasp or rest stands in the other jaw. Correct it."
        return _wrong("clasps", "framework.clasps", words)
    return _passed("clasps", "framework.clasps")


def check_dates(rx: LabRx, facts: CaseFacts, _b: Rulebook, pack: LabPack) -> Sequence[Check]:
    """The laboratory has its working days, and the work is here a working day before seating."""
    if rx.due_at is None:
        return []
    due = rx.due_at.astimezone(facts.zone).date()
    earliest = add_workdays(facts.today, facts.turnaround_days, pack.holidays)
    found: list[Check] = []
    if due < earliest:
        words = (
            f"{pack.label} needs {facts.turnaround_days} working days, until {earliest}. "
            "Move the due date and the visit, or ask for a rush."
        )
        found += _wrong("turnaround", "due_at", words)
    else:
        found += _passed("turnaround", "due_at")
    if rx.seat_at is not None:
        seat = rx.seat_at.astimezone(facts.zone).date()
        latest = add_workdays(seat, -1, pack.holidays)
        if due > latest:
            words = f"due later than {latest}, a working day before the visit. Move one of them."
            found += _wrong("seat_date", "due_at", words)
        else:
            found += _passed("seat_date", "due_at")
    return found


def check_coverage(rx: LabRx, facts: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """Say what the patient's plan does not pay; a remark, the dentist decides."""
    found = []
    if facts.coverage.percent == 0:
        words = "the patient's plan does not cover this procedure. Tell the patient the price."
        found.append(Check("coverage", "procedure_codes", Level.REMARK, words))
    again = facts.coverage.again_from
    if again is not None and again > facts.today:
        words = f"the plan pays for this tooth again from {again}. Tell the patient the price."
        found.append(Check("coverage", "procedure_codes", Level.REMARK, words))
    return found or (_passed("coverage", "procedure_codes") if facts.coverage.percent else [])


def check_remake(rx: LabRx, _f: CaseFacts, _b: Rulebook, _p: LabPack) -> Sequence[Check]:
    """A remake names another case than itself."""
    if rx.remake is None:
        return []
    if rx.remake.original_case == rx.case_number:
        words = "a case cannot be its own remake. Name the original case."
        return _wrong("remake", "remake.original_case", words)
    return _passed("remake", "remake.original_case")


def check_files(rx: LabRx, _f: CaseFacts, _b: Rulebook, pack: LabPack) -> Sequence[Check]:
    """Files are of the size and format that the laboratory takes."""
    if not rx.attachments:
        return []
    largest = pack.largest_file_mb * 1_000_000
    if any(each.size_bytes > largest for each in rx.attachments):
        words = f"a file is larger than {pack.largest_file_mb:g} MB. Export it coarser or split it."
        return _wrong("files", "attachments", words)
    if sum(each.size_bytes for each in rx.attachments) > pack.largest_package_mb * 1_000_000:
        words = f"all files together exceed {pack.largest_package_mb:g} MB. Leave some out."
        return _wrong("files", "attachments", words)
    for each in rx.attachments:
        ending = each.name.rpartition(".")[2].lower()
        if "scan" in each.kind.value and ending not in pack.scan_formats:
            words = f"{pack.label} takes scans as {', '.join(pack.scan_formats)}. Export it again."
            return _wrong("files", "attachments", words)
    return _passed("files", "attachments")


#: Every check, in the order in which a person reads them.
ALL: tuple[CrossCheck, ...] = (
    check_units,
    check_arch,
    check_span,
    check_pontics,
    check_shade,
    check_material,
    check_thickness,
    check_allergies,
    check_implant,
    check_clasps,
    check_dates,
    check_coverage,
    check_remake,
    check_files,
)
