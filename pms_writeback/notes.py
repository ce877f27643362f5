"""What a signed review says in words: the chart note and the tasks.

Pure text. Teeth in Universal numbers, one finding a line; the same thing confirmed on several
images is one line. A PMS may turn line ends into spaces, so every line is a sentence. Only findings
that a person confirmed are ever put into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from node.domain.findings import CariesDepth, DecisionState, Disposition, FindingKind
from node.domain.merging import group_key
from node.domain.review import NOT_CLEARED, SignedFinding, SignedReview
from node.domain.teeth import Surface
from pms_writeback.pms import with_ref

NOTHING_RECORDED = "No findings recorded. That does not mean no disease."

_KINDS = {
    FindingKind.CARIES: "Caries",
    FindingKind.BONE_LEVEL: "Bone level",
    FindingKind.PERIAPICAL_RADIOLUCENCY: "Periapical radiolucency",
    FindingKind.CALCULUS: "Calculus",
    FindingKind.RESTORATION: "Restoration",
    FindingKind.CROWN: "Crown",
    FindingKind.ROOT_FILLING: "Root filling",
    FindingKind.IMPLANT: "Implant",
    FindingKind.IMPACTED_TOOTH: "Impacted tooth",
    FindingKind.RECURRENT_CARIES: "Recurrent caries",
    FindingKind.DEFECTIVE_MARGIN: "Defective margin",
    FindingKind.POST: "Post",
    FindingKind.ROOT_REMNANT: "Root remnant",
    FindingKind.ANGULAR_DEFECT: "Angular bone defect",
    FindingKind.FURCATION: "Furcation radiolucency suspected",
    FindingKind.OTHER: "Other finding",
}
_DEPTHS = {
    CariesDepth.E1: "outer half of enamel (E1)",
    CariesDepth.E2: "inner half of enamel (E2)",
    CariesDepth.D1: "outer third of dentin (D1)",
    CariesDepth.D2: "middle third of dentin (D2)",
    CariesDepth.D3: "inner third of dentin (D3)",
    CariesDepth.P: "reaching the pulp (P)",
}
_SURFACES = {
    Surface.MESIAL: "mesial",
    Surface.DISTAL: "distal",
    Surface.OCCLUSAL: "occlusal",
    Surface.INCISAL: "incisal",
    Surface.BUCCAL: "buccal",
    Surface.LINGUAL: "lingual",
}
_DISPOSITIONS = {
    Disposition.WATCH: "watch",
    Disposition.PREVENTIVE: "preventive care",
    Disposition.RESTORE: "restore",
    Disposition.REFER: "refer",
    Disposition.NONE: "no action",
}
_PLANNED = (Disposition.RESTORE, Disposition.REFER)


def chart_note(signed: SignedReview, *, zone: tzinfo, ref: str) -> str:
    """Compose the note of a signed review for the patient's chart; `ref` ends it."""
    lines = [
        f"AI-assisted radiograph findings ({model_names(signed)}), "
        f"confirmed by {signer(signed)} on {local_time(signed.signed_at, zone)}.",
        f"{_plural(len(signed.instances), 'image')} read, review version {signed.version}.",
    ]
    if signed.version > 1:
        reason = f" Reason: {_sentence(signed.reason)}" if signed.reason.strip() else ""
        lines.append(f"This amendment replaces version {signed.version - 1}.{reason}")
    lines += numbered(signed) or [NOTHING_RECORDED]
    lines += [counts(signed, zone), NOT_CLEARED]
    return with_ref("\n".join(lines), ref)


def plan_task(signed: SignedReview, *, zone: tzinfo, ref: str, amends: bool = False) -> str:
    """Compose the task for what the signer plans to restore or to refer.

    `amends` says that an earlier version's plan stands in the chart and is replaced.
    """
    planned = [
        line
        for line, members in zip(numbered(signed), lines(signed), strict=True)
        if members[0].disposition in _PLANNED
    ]
    head = (
        f"Planned from signed radiograph findings, AI-assisted ({model_names(signed)}), "
        f"confirmed by {signer(signed)} on {local_time(signed.signed_at, zone)}."
    )
    replaced = ["This replaces what was planned from earlier versions."] if amends else []
    return with_ref("\n".join([head, *replaced, *(planned or ["Nothing is planned."])]), ref)


def review_task(accession_number: str, ref: str) -> str:
    """Compose the task that flags a chart while its study is unsigned: ids and state only."""
    study = f" Accession number {accession_number}." if accession_number else ""
    return with_ref(f"Radiographs are waiting for review.{study} State: not signed.", ref)


def confirmed(signed: SignedReview) -> tuple[SignedFinding, ...]:
    """Give the findings that a person accepted, edited or added; never any other."""
    decided = (DecisionState.ACCEPTED, DecisionState.EDITED)
    return tuple(each for each in signed.findings if each.state in decided)


def lines(signed: SignedReview) -> list[tuple[SignedFinding, ...]]:
    """Gather the confirmed findings line by line: one thing on several images stands together.

    Only what is of one kind, intended alike and on different images is joined; what stands first
    on a line goes deepest or furthest.
    """
    gathered: list[list[SignedFinding]] = []
    for each in confirmed(signed):
        line = next((line for line in gathered if _is_same(line, each)), None)
        if line is None:
            gathered.append([each])
        else:
            line.append(each)
    return [tuple(sorted(line, key=_extent, reverse=True)) for line in gathered]


def numbers(signed: SignedReview) -> dict[str, int]:
    """Give each confirmed finding the number of its line, by its id."""
    return {each.id: n for n, line in enumerate(lines(signed), start=1) for each in line}


def numbered(signed: SignedReview) -> list[str]:
    """Put each line into one numbered sentence."""
    return [
        f"{number}. {describe(line[0])}{_also_seen(line)}.{''.join(map(_comment, line))}"
        for number, line in enumerate(lines(signed), start=1)
    ]


def describe(each: SignedFinding) -> str:
    """Say what a finding is, where, how much, what is intended and who marked it first."""
    parts = [kind_name(each), tooth_name(each), surface_names(each), measure(each)]
    return ", ".join(part for part in [*parts, plan_name(each), origin_name(each)] if part)


def kind_name(each: SignedFinding) -> str:
    """Name the kind."""
    return _KINDS[each.finding.kind]


def tooth_name(each: SignedFinding) -> str:
    """Name the tooth in Universal notation, empty for none."""
    return f"tooth #{each.finding.tooth.universal}" if each.finding.tooth else ""


def surface_names(each: SignedFinding) -> str:
    """Name the surfaces."""
    return " and ".join(_SURFACES[surface] for surface in each.finding.surfaces)


def measure(each: SignedFinding) -> str:
    """Say depth, millimetres and percent; lengths are not corrected for magnification."""
    finding = each.finding
    parts = [
        _DEPTHS[finding.depth] if finding.depth else "",
        f"{finding.value_mm:.1f} mm (detector plane)" if finding.value_mm is not None else "",
        f"{finding.value_percent:.0f} % of root length"
        if finding.value_percent is not None
        else "",
    ]
    return ", ".join(part for part in parts if part)


def plan_name(each: SignedFinding) -> str:
    """Say what the signer intends, empty when nothing was said."""
    return f"plan: {_DISPOSITIONS[each.disposition]}" if each.disposition else ""


def origin_name(each: SignedFinding) -> str:
    """Say who marked it first and what became of it."""
    if each.origin != "ai":
        return "added by the reader"
    return "AI mark edited" if each.state is DecisionState.EDITED else "AI mark accepted"


def counts(signed: SignedReview, zone: tzinfo) -> str:
    """Say who confirmed, with what assistance, and how the suggestions were decided."""
    n = signed.counts
    undecided = f", {n.left_unreviewed} left undecided" if n.left_unreviewed else ""
    return (
        f"Findings confirmed by {signer(signed)} on {signed.signed_at.astimezone(zone):%Y-%m-%d}. "
        f"AI assistance: {model_names(signed)}. "
        f"{n.suggested} suggested, {n.accepted} accepted, {n.edited} edited, "
        f"{n.rejected} rejected, {n.added} added by the reader{undecided}."
    )


def model_names(signed: SignedReview) -> str:
    """Name every model that looked, with its version."""
    return ", ".join(str(model) for model in signed.models) or "no model installed"


def signer(signed: SignedReview) -> str:
    """Name who signed, and their role."""
    return ", ".join(part for part in (signed.signer_name, signed.signer_role) if part)


def local_time(moment: datetime, zone: tzinfo) -> str:
    """Show an instant on the practice's clock, with its offset."""
    local = moment.astimezone(zone)
    offset = f"{local:%z}"
    return f"{local:%Y-%m-%d %H:%M} (UTC{offset[:3]}:{offset[3:]})"


def _is_same(line: Sequence[SignedFinding], each: SignedFinding) -> bool:
    key, first = group_key(each.finding), line[0]
    return (
        key is not None
        and key == group_key(first.finding)
        and (each.finding.kind, each.disposition) == (first.finding.kind, first.disposition)
        and all(other.instance_id != each.instance_id for other in line)
    )


def _extent(each: SignedFinding) -> tuple[int, float, float]:
    depth = tuple(CariesDepth).index(each.finding.depth) if each.finding.depth else -1
    return depth, each.finding.value_mm or 0.0, each.finding.value_percent or 0.0


def _also_seen(line: Sequence[SignedFinding]) -> str:
    """Say on how many images a thing was confirmed, and what was measured on each."""
    if len(line) == 1:
        return ""
    lengths = [f"{e.finding.value_mm:.1f}" for e in line if e.finding.value_mm is not None]
    measured = f" ({' and '.join(lengths)} mm)" if len(set(lengths)) > 1 else ""
    return f", confirmed on {len(line)} images{measured}"


def _comment(each: SignedFinding) -> str:
    return f" Comment: {_sentence(each.comment)}" if each.comment.strip() else ""


def _sentence(text: str) -> str:
    """Keep a person's words on one line, ended."""
    words = " ".join(text.split())
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
