"""The comparison report of silent mode: what nobody saw against what dentists marked alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from node.analysis.agreement import Unit, rows_of, units_of
from node.db.session import read
from node.db.tables import review, study
from node.domain.intervals import wilson
from node.domain.review import SignedReview, finding_to_json
from node.rollout.reports import AgreementRow, Report, Share
from node.rollout.silent import SilentImage, SilentReading, first_readings

_NOTE = (
    "Each study counts as it was signed first, by a dentist who did not see these suggestions. A "
    "tooth without a mark by either is not counted, so there is no specificity here."
)


class Tally:
    """Gathers images by view: who was compared, what was signed and what was said."""

    def __init__(self) -> None:
        self._images: dict[str, list[tuple[str, frozenset[Unit], frozenset[Unit]]]]
        self._images = defaultdict(list)
        self._studies: dict[str, set[str]] = defaultdict(set)
        self._patients: set[str] = set()
        self._count = 0

    def add(
        self,
        view: str,
        patient: str,
        study_id: str,
        signed: frozenset[Unit],
        said: frozenset[Unit],
        images: int = 1,
    ) -> None:
        """Count one image, or so many of one study's view together."""
        self._images[view].append((patient, signed, said))
        self._studies[view].add(study_id)
        self._patients.add(patient)
        self._count += images

    def report(
        self,
        source: str,
        models: Iterable[str],
        notes: Sequence[str],
        shown: Iterable[str] = (),
    ) -> Report:
        """Sum up, by view and, under an empty view, over all of them."""
        everything = [image for images in self._images.values() for image in images]
        studies = set().union(*self._studies.values()) if self._studies else set()
        rows = self._rows("", everything, len(studies))
        for view in sorted(self._images):
            rows += self._rows(view or "unknown", self._images[view], len(self._studies[view]))
        return Report(
            source=source,
            studies=len(studies),
            patients=len(self._patients),
            images=self._count,
            views=tuple((view, len(ids)) for view, ids in sorted(self._studies.items())),
            rows=tuple(rows),
            shown=tuple(sorted(set(shown))),
            models=tuple(sorted(set(models))),
            notes=tuple(notes),
        )

    @staticmethod
    def _rows(
        view: str,
        images: Sequence[tuple[str, frozenset[Unit], frozenset[Unit]]],
        studies: int,
    ) -> list[AgreementRow]:
        return [
            AgreementRow(
                row.kind,
                view,
                row.level,
                studies,
                row.signed,
                row.said,
                row.both,
                _widened(row.sensitivity, row.both, row.signed),
                _widened(row.precision, row.both, row.said),
                row.is_few,
            )
            for row in rows_of(images)
        ]


def _widened(share: Share, hits: int, of: int) -> Share:
    """Give the wider of the interval over patients and Wilson's.

    Resampling a handful of patients, or none with a hit, would claim certainty.
    """
    if not of or share.low is None or share.high is None:
        return share
    low, high = wilson(hits, of)
    return Share(share.value, min(share.low, low), max(share.high, high))


def silent_report(db: sa.Engine, location_id: str) -> Report:
    """Compare every first signature with what was silent to its signer then."""
    tally, models, shown = Tally(), set[str](), set[str]()
    with read(db) as conn:
        readings = first_readings(conn, location_id)
        signed = _signed(conn, location_id)
    for reading in readings:
        if reading.study_id not in signed:
            continue
        patient, first = signed[reading.study_id]
        for image in reading.images:
            models.update(image.models)
            _add(tally, reading, image, patient, first)
            kept = {item.finding.kind.value for item in first.findings if item.origin == "ai"}
            shown |= kept - set(image.silent)
    return tally.report("silent", models, (_NOTE,), shown)


def _add(
    tally: Tally, reading: SilentReading, image: SilentImage, patient: str, first: SignedReview
) -> None:
    kinds = set(image.silent)
    marked: list[Mapping[str, object]] = [
        finding_to_json(item.finding)
        for item in first.findings
        if item.instance_id == image.id and item.finding.kind.value in kinds
    ]
    said: list[Mapping[str, object]] = [
        {"kind": each.kind, "tooth": each.tooth, "surfaces": each.surfaces}
        for each in image.said
        if each.kind in kinds
    ]
    tally.add(
        image.view,
        patient,
        reading.study_id,
        units_of(image.id, marked),
        units_of(image.id, said),
    )


def _signed(conn: sa.Connection, location_id: str) -> dict[str, tuple[str, SignedReview]]:
    """Read the first signed version of each study, with its patient (or study)."""
    rows = conn.execute(
        sa.select(study.c.id, study.c.patient_id, review.c.content)
        .join(review, sa.and_(review.c.study_id == study.c.id, review.c.version == 1))
        .where(study.c.location_id == location_id)
    )
    return {row.id: (row.patient_id or row.id, SignedReview.from_json(row.content)) for row in rows}
