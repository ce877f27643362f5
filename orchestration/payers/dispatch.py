"""What goes out with a request: pictures, papers and the portal's PDF, made from signed facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from node.dicom.annotation import Mark, mark
from node.dicom.pixels import decode, render8
from node.errors import InvalidInput
from orchestration.access import Chart
from orchestration.payers.attachments import (
    Label,
    PortalPage,
    compose_paper,
    compose_picture,
    compose_portal_pdf,
)
from orchestration.payers.clearinghouse import Photo
from orchestration.payers.office import PayerOffice
from orchestration.payers.pictures import SignedPicture, signed_day
from orchestration.payers.policy import Policy
from orchestration.payers.request import Request, is_of_place, line_words, perio_lines
from orchestration.payers.rules import EvidenceKind
from pms_writeback import notes

_KINDS = {
    "bitewing": "Bitewing",
    "periapical": "Periapical radiograph",
    "panoramic": "Panoramic radiograph",
    "photo": "Photograph",
}


@dataclass(frozen=True, slots=True)
class Enclosure:
    """One file to send: its PWK01 report type, its name, and how it is made."""

    report: str
    file_name: str
    media_type: str
    make: Callable[[], bytes] = field(repr=False)

    def photo(self, reference: str) -> Photo:
        """Make the file for the clearinghouse under our reference."""
        return Photo(reference, self.file_name, self.media_type, self.make())


def enclosures(
    office: PayerOffice, chart: Chart, request: Request, policy: Policy, long_text: str
) -> list[Enclosure]:
    """List what is sent, in a fixed order; nothing is made yet."""
    most = round(office.section.attachment_mb * 1_000_000)
    found: list[Enclosure] = []
    for number, image_id in enumerate(request.image_ids, start=1):
        picture = request.picture(image_id)
        if picture is not None:
            name = f"image-{number}.jpg"
            found.append(
                Enclosure("RB", name, "image/jpeg", _picture(chart, request, policy, picture, most))
            )
    about = _about(policy)
    chart_lines = perio_lines(request.facts)
    if chart_lines and _wants(request, EvidenceKind.PERIO_CHART):
        found.append(
            Enclosure(
                "P6", "perio-chart.pdf", "application/pdf",
                lambda: compose_paper("Periodontal chart", about, chart_lines),
            )
        )  # fmt: skip
    found.append(
        Enclosure(
            "OZ", "narrative.pdf", "application/pdf",
            lambda: compose_paper("Narrative", about, long_text.splitlines()),
        )
    )  # fmt: skip
    return found


def pms_images(request: Request) -> int:
    """Count evidence that only the PMS holds, which the office sends on request."""
    return sum(1 for image_id in request.image_ids if request.picture(image_id) is None)


def portal_pdf(
    office: PayerOffice,
    chart: Chart,
    request: Request,
    policy: Policy,
    claim_id: str,
    long_text: str,
    sources: Sequence[str],
) -> bytes:
    """Make the whole request as one PDF, for payers with a portal only and for the patient file."""
    most = round(office.section.attachment_mb * 1_000_000)
    ours = [p for p in map(request.picture, request.image_ids) if p is not None]
    person, dentist = policy.patient, office.dentist(_provider(request))
    page = PortalPage(
        practice=office.config.node.practice_name,
        dentist=f"{dentist.given_name} {dentist.family_name}, NPI {dentist.npi}",
        payer=f"{policy.insurance.payer_name} ({policy.insurance.payer_id})",
        patient=f"{person.given_name} {person.family_name}",
        birth_date=person.birth_date,
        member_id=policy.insurance.member_id,
        claim_id=claim_id,
        lines=tuple(line_words(wish) for wish in request.wishes),
        narrative=long_text,
        sources=tuple(sources),
        perio=perio_lines(request.facts) if _wants(request, EvidenceKind.PERIO_CHART) else (),
    )
    pictures = [_picture(chart, request, policy, each, most)() for each in ours]
    return compose_portal_pdf(page, pictures)


def _picture(
    chart: Chart, request: Request, policy: Policy, picture: SignedPicture, most_bytes: int
) -> Callable[[], bytes]:
    def make() -> bytes:
        files = chart.images([picture.fact.id])
        if not files:
            raise InvalidInput("an image that is to be sent is no longer in the store")
        grey = render8(decode(files[0][1]))
        return compose_picture(grey, _marks(request, picture), label, most_bytes)

    person = policy.patient
    shown = tuple(t for t in picture.fact.teeth if is_of_place(t, request))
    view = picture.fact.view.value if picture.fact.view else ""
    signed = ""
    if _marks(request, picture):
        signed = (
            f"Right copy: AI-assisted ({notes.model_names(picture.review)}), findings confirmed by"
            f" {picture.review.signer_name} on {signed_day(picture, chart.zone):%m/%d/%Y}"
        )
    label = Label(
        person.family_name, person.given_name, person.birth_date, picture.fact.taken_on,
        _KINDS.get(view, "Image"), picture.side, shown, signed,
    )  # fmt: skip
    return make


def _marks(request: Request, picture: SignedPicture) -> tuple[Mark, ...]:
    """Draw the signed findings of the place only; the rest is not this payer's to see."""
    return tuple(
        mark(each.finding, f"#{each.finding.tooth.universal}", number)
        for number, each in enumerate(picture.findings, start=1)
        if each.finding.tooth is not None and is_of_place(each.finding.tooth, request)
    )


def _about(policy: Policy) -> tuple[str, ...]:
    person = policy.patient
    return (
        f"Patient: {person.family_name}, {person.given_name}   born {person.birth_date:%m/%d/%Y}",
        f"Payer: {policy.insurance.payer_name}   Member: {policy.insurance.member_id}",
    )


def _wants(request: Request, kind: EvidenceKind) -> bool:
    return any(kind in e.kinds for wish in request.wishes for e in wish.rule.evidence)


def _provider(request: Request) -> str:
    return next((w.planned.provider_key for w in request.wishes), "")
