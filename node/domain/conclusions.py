"""From findings and facts to what is said about a study: tags, urgency, severity, referrals, codes.

Pure: the same for suggestions that wait for a dentist and for what a dentist signed. What flows on
after a signature is computed here again from the signed findings alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from node.domain.cdt import CodeTable, suggest
from node.domain.findings import CariesDepth, FindingKind, View
from node.domain.merging import merge
from node.domain.reading import (
    Conclusions,
    Group,
    Priority,
    Referral,
    Severity,
    StudyFacts,
    StudyFinding,
    ToothState,
    Urgency,
    Verdict,
)
from node.domain.severity import STAGE_PERCENT, merged_sites, severity_of, vertical_defects
from node.domain.teeth import Surface

UNSIGNED_WORDS = "A suggestion from AI marks that no clinician has confirmed; never an emergency."
SIGNED_WORDS = "From signed findings; the clinician decides when to see the patient."

#: New loss of this much prompts a periodontist, mm. Source: referral prompts, reference table.
NEW_LOSS_MM = 2.0
#: A lucency wider than this goes to oral surgery or radiology, mm.
LARGE_LUCENCY_MM = 10.0
#: Percent of root lost per year of age beyond which onset is rapid.
RAPID_PERCENT_PER_YEAR = 1.0

_K = FindingKind
_SURFACE_NAMES = {
    Surface.MESIAL: "mesial",
    Surface.DISTAL: "distal",
    Surface.OCCLUSAL: "occlusal",
    Surface.INCISAL: "incisal",
    Surface.BUCCAL: "buccal",
    Surface.LINGUAL: "lingual",
}
#: Tag of a kind; what stands in the second set is a suspicion until it is signed.
_PRESENT = {
    _K.RESTORATION: "restoration_present",
    _K.CROWN: "crown_present",
    _K.ROOT_FILLING: "root_filling_present",
    _K.POST: "post_present",
    _K.IMPLANT: "implant_present",
}
_SUSPECTED = {
    _K.CARIES: "caries",
    _K.RECURRENT_CARIES: "recurrent_caries",
    _K.BONE_LEVEL: "bone_loss",
    _K.PERIAPICAL_RADIOLUCENCY: "periapical_lesion",
    _K.CALCULUS: "calculus",
    _K.DEFECTIVE_MARGIN: "defective_margin",
    _K.ANGULAR_DEFECT: "angular_defect",
    _K.FURCATION: "furcation",
    _K.ROOT_REMNANT: "root_remnant",
    _K.IMPACTED_TOOTH: "impacted_tooth",
}


def reading_of(
    findings: Sequence[StudyFinding], facts: StudyFacts, table: CodeTable
) -> Conclusions:
    """Conclude what is said of a study from its findings that were not rejected.

    All signed: the conclusions are those of a signed review and speak of nothing else.
    """
    is_signed = bool(findings) and all(each.is_signed for each in findings)
    return conclude(findings, facts, table, is_signed=is_signed)


def conclude(
    findings: Sequence[StudyFinding], facts: StudyFacts, table: CodeTable, *, is_signed: bool
) -> Conclusions:
    """Conclude as :func:`reading_of`; a signed review without findings is signed too."""
    groups = merge(findings, facts)
    severity = severity_of(facts, groups, is_signed=is_signed)
    codes, notes = suggest(table, groups, findings, facts)
    return Conclusions(
        is_signed=is_signed,
        tags=_tags(groups, facts, is_signed),
        priority=_priority(groups, findings, facts, severity, is_signed),
        severity=severity,
        groups=groups,
        referrals=tuple(_referrals(groups, findings, facts, severity, is_signed)),
        codes=codes,
        code_notes=notes,
    )


def lucency_mm(each: StudyFinding, facts: StudyFacts) -> float | None:
    """Measure the largest extent of a mark on the detector plane; None without a spacing."""
    image = facts.image(each.instance_id)
    if image is None or image.spacing_mm is None:
        return None
    xs = [x * image.spacing_mm[1] for x, _ in each.finding.geometry.points]
    ys = [y * image.spacing_mm[0] for _, y in each.finding.geometry.points]
    return max(max(xs) - min(xs), max(ys) - min(ys))


def _tags(groups: Sequence[Group], facts: StudyFacts, is_signed: bool) -> tuple[str, ...]:
    tags = list(_view_tags(facts))
    ending = "recorded" if is_signed else "suspected"
    for group in groups:
        if group.kind in _PRESENT:
            tags.append(_PRESENT[group.kind])
        elif group.kind in _SUSPECTED:
            tags.append(f"{_SUSPECTED[group.kind]}_{ending}")
    for group in groups:
        if group.kind.is_disease:
            tags += [
                f"tooth_{group.tooth.universal.lower()}_{_SURFACE_NAMES[surface]}"
                for surface in group.surfaces
            ] or [f"tooth_{group.tooth.universal.lower()}"]
    if facts.series is not None and facts.series.retakes:
        tags.append("retake_suggested")
    if any(change.verdict.is_change for change in facts.changes):
        tags.append("change_since_prior")
    if any(each.state is ToothState.MISSING for each in facts.teeth):
        tags.append("missing_teeth")
    return tuple(dict.fromkeys(tags))


def _view_tags(facts: StudyFacts) -> Iterator[str]:
    for view in View:
        if view is not View.OTHER and any(image.view is view for image in facts.images):
            yield view.value
    if facts.series is not None and facts.series.template.startswith("FMX"):
        yield "full_mouth_series"
    narrow = [i for i in facts.images if i.view in (View.BITEWING, View.PERIAPICAL)]
    shown = [tooth for image in narrow for tooth in image.teeth]
    if any(tooth.is_posterior for tooth in shown):
        yield "posterior"
    if any(tooth.position <= 3 for image in narrow for tooth in image.teeth
           if image.view is View.PERIAPICAL):  # fmt: skip
        yield "anterior"


def _priority(
    groups: Sequence[Group],
    findings: Sequence[StudyFinding],
    facts: StudyFacts,
    severity: Severity | None,
    is_signed: bool,
) -> Priority:
    prompt, soon = [], []
    deep = {g.tooth for g in groups if g.depth is CariesDepth.P}
    lucent = [g for g in groups if g.kind is _K.PERIAPICAL_RADIOLUCENCY]
    for group in lucent:
        name = f"#{group.tooth.universal}"
        if group.tooth in deep:
            prompt.append(f"{name}: lucency at the apex of a tooth with caries to the pulp")
        else:
            soon.append(f"{name}: lucency at the apex; confirm with a pulp test")
    for each in findings:
        if each.finding.kind is _K.PERIAPICAL_RADIOLUCENCY:
            size = lucency_mm(each, facts)
            if size is not None and size > LARGE_LUCENCY_MM:
                prompt.append(f"lucency of {size:.0f} mm (detector plane)")
    for group in groups:
        if group.depth in (CariesDepth.D3, CariesDepth.P):
            soon.append(f"#{group.tooth.universal}: caries {group.depth.value}, close to the pulp")
        if group.kind is _K.ROOT_REMNANT:
            soon.append(f"#{group.tooth.universal}: root remnant")
    soon += list(_periodontal_reasons(groups, facts, severity, is_signed))
    urgency = Urgency.PROMPT if prompt else Urgency.SOON if soon else Urgency.ROUTINE
    reasons = tuple(dict.fromkeys([*prompt, *soon])) or ("nothing that asks for an earlier look",)
    return Priority(urgency, reasons, SIGNED_WORDS if is_signed else UNSIGNED_WORDS)


def _periodontal_reasons(
    groups: Sequence[Group], facts: StudyFacts, severity: Severity | None, is_signed: bool
) -> Iterator[str]:
    sites = merged_sites(facts, groups, is_signed)
    severe = {site.tooth for site in sites if (site.percent or 0) > STAGE_PERCENT[1]}
    if len(severe) >= 2:
        yield f"bone loss beyond a third of the root at {len(severe)} teeth"
    for group in vertical_defects(groups):
        yield f"#{group.tooth.universal}: angular defect of {group.value_mm:.1f} mm"
    for group in groups:
        if group.kind is _K.FURCATION:
            yield f"#{group.tooth.universal}: furcation suspected; radiographs cannot class it"
    for change in facts.changes:
        if change.verdict is Verdict.MORE_LOSS and (change.delta_mm or 0) >= NEW_LOSS_MM:
            yield f"#{change.tooth.universal}: {change.delta_mm:.1f} mm of new bone loss"
    if severity and severity.percent is not None and facts.age_years:
        rate = severity.percent / facts.age_years
        if rate > RAPID_PERCENT_PER_YEAR:
            yield f"worst loss {severity.percent:.0f} % of the root at {facts.age_years} years"


def _referrals(
    groups: Sequence[Group],
    findings: Sequence[StudyFinding],
    facts: StudyFacts,
    severity: Severity | None,
    is_signed: bool,
) -> Iterator[Referral]:
    bone = (_K.BONE_LEVEL, _K.ANGULAR_DEFECT, _K.FURCATION)
    bone_ids = tuple(i for g in groups if g.kind in bone for i in g.finding_ids)
    for reason in dict.fromkeys(_periodontal_reasons(groups, facts, severity, is_signed)):
        yield Referral("periodontist", reason, bone_ids)
    filled = {g.tooth for g in groups if g.kind in (_K.ROOT_FILLING, _K.POST)}
    for group in groups:
        name = f"#{group.tooth.universal}"
        if group.kind is _K.PERIAPICAL_RADIOLUCENCY and group.tooth in filled:
            reason = f"{name}: lucency at the apex of a root-filled tooth"
            yield Referral("endodontist", reason, group.finding_ids)
        if group.kind is _K.IMPACTED_TOOTH and group.tooth.position == 8:
            reason = f"{name}: impacted third molar; look at its distance to the canal"
            yield Referral("oral surgeon", reason, group.finding_ids)
    for each in findings:
        if each.finding.kind is _K.PERIAPICAL_RADIOLUCENCY:
            size = lucency_mm(each, facts)
            if size is not None and size > LARGE_LUCENCY_MM:
                reason = f"lucency of {size:.0f} mm (detector plane), wider than 10 mm"
                yield Referral("oral surgeon or radiologist", reason, (each.id,))
