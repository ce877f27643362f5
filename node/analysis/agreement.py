"""How live and shadow networks agree with what was signed in this practice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from node.db.session import read
from node.db.tables import analysis_run, finding, instance, review, shadow_run, study, tooth_mark
from node.domain.review import Json, SignedReview, finding_to_json
from node.domain.study import StudyState
from node.rollout.reports import Share

#: Fewer units than this say nothing yet.
FEW = 20
#: Source: the usual for FROC-type figures: 2,000 resamples of patients.
_RESAMPLES = 2000

#: An image, a kind of finding, a tooth and a surface (empty: the tooth as a whole).
Unit = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of finding at one level, ``tooth`` or ``surface``, for one network.

    ``said`` counts what the network suggested, ``signed`` what the reader kept or added, ``both``
    the units of both. ``is_few`` says that the figures mean nothing yet.
    """

    kind: str
    level: str
    signed: int
    said: int
    both: int
    sensitivity: Share
    precision: Share
    is_few: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """A network in trial beside the live one, on the same signed images.

    ``same_views`` of ``images`` were named alike; ``teeth_alike`` is the share of tooth numbers
    that both found (Dice), None without teeth. There is no signed truth for these two.
    """

    task: str
    version: str
    digest: str
    images: int
    studies: int
    patients: int
    live: tuple[Row, ...]
    shadow: tuple[Row, ...]
    same_views: int
    teeth_alike: float | None
    failed: int


@dataclass(frozen=True, slots=True)
class _Image:
    """One image with what was signed, said live and said in the shadow, as units."""

    patient: str
    study: str
    signed: frozenset[Unit]
    live: frozenset[Unit]
    shadow: frozenset[Unit]
    views: tuple[str | None, str | None]
    teeth: tuple[frozenset[str], frozenset[str]]


def compare(
    db: sa.Engine, location_id: str, task: str, version: str = "", since: datetime | None = None
) -> tuple[Agreement, ...]:
    """Set every network that ran in the shadow for `task` against the reviews signed `since`."""
    with read(db) as conn:
        runs = _shadow_runs(conn, location_id, task, version)
        reviews = _reviews(conn, location_id, since)
        found = []
        for name, digest in sorted({(run.version, run.model_digest) for run in runs}):
            mine = [run for run in runs if run.model_digest == digest and run.study_id in reviews]
            failed = sum(bool(run.failure) for run in mine)
            images = _images(conn, [run for run in mine if not run.failure], reviews)
            found.append(_agreement(task, name, digest, images, failed))
    return tuple(found)


# --- reading -------------------------------------------------------------------------------------


def _shadow_runs(
    conn: sa.Connection, location_id: str, task: str, version: str
) -> Sequence[sa.Row]:  # type: ignore[type-arg]
    query = (
        sa.select(shadow_run, instance.c.study_id)
        .join(instance, instance.c.id == shadow_run.c.instance_id)
        .where(shadow_run.c.location_id == location_id, shadow_run.c.task == task)
        .order_by(shadow_run.c.id)
    )
    return conn.execute(query.where(shadow_run.c.version == version) if version else query).all()


def _reviews(
    conn: sa.Connection, location_id: str, since: datetime | None
) -> dict[str, tuple[str, SignedReview]]:
    """Read the last signed version of each study, with its patient (or study)."""
    query = (
        sa.select(study.c.id, study.c.patient_id, review.c.content)
        .join(review, review.c.study_id == study.c.id)
        .where(
            study.c.location_id == location_id,
            study.c.state == StudyState.SIGNED.value,
            review.c.version == study.c.review_version,
        )
    )
    if since is not None:
        query = query.where(review.c.signed_at >= since)
    return {
        row.id: (row.patient_id or row.id, SignedReview.from_json(row.content))
        for row in conn.execute(query)
    }


def _images(
    conn: sa.Connection,
    runs: Sequence[sa.Row],  # type: ignore[type-arg]
    reviews: Mapping[str, tuple[str, SignedReview]],
) -> list[_Image]:
    ids = [run.instance_id for run in runs]
    live_runs = _latest_runs(conn, ids)
    live = _live_findings(conn, [run.id for run in live_runs.values()])
    teeth: dict[str, set[str]] = defaultdict(set)
    for mark in conn.execute(
        sa.select(tooth_mark.c.instance_id, tooth_mark.c.tooth).where(
            tooth_mark.c.instance_id.in_(ids)
        )
    ):
        teeth[mark.instance_id].add(mark.tooth)
    images = []
    for run in runs:
        if run.instance_id not in live_runs:
            continue
        patient, signed = reviews[run.study_id]
        kept = [
            finding_to_json(item.finding)
            for item in signed.findings
            if item.instance_id == run.instance_id
        ]
        images.append(
            _Image(
                patient,
                run.study_id,
                units_of(run.instance_id, kept),
                units_of(run.instance_id, live[run.instance_id]),
                units_of(run.instance_id, run.findings),
                (live_runs[run.instance_id].view, run.view),
                (
                    frozenset(teeth[run.instance_id]),
                    frozenset(mark["tooth"] for mark in run.teeth),
                ),
            )
        )
    return images


def _latest_runs(conn: sa.Connection, ids: Sequence[str]) -> dict[str, sa.Row]:  # type: ignore[type-arg]
    query = sa.select(analysis_run.c.id, analysis_run.c.instance_id, analysis_run.c.view)
    rows = conn.execute(
        query.where(analysis_run.c.instance_id.in_(ids)).order_by(analysis_run.c.finished_at)
    )
    return {row.instance_id: row for row in rows}


def _live_findings(conn: sa.Connection, run_ids: Sequence[str]) -> dict[str, list[Json]]:
    """Read what the live networks suggested, as it was before anybody edited it."""
    found: dict[str, list[Json]] = defaultdict(list)
    rows = conn.execute(
        sa.select(finding).where(finding.c.run_id.in_(run_ids), finding.c.origin == "ai")
    )
    for row in rows:
        found[row.instance_id].append(row.original or dict(row._mapping))
    return found


def units_of(image: str, findings: Iterable[Json]) -> frozenset[Unit]:
    """Spread findings over teeth and surfaces; what has no tooth counts for the image."""
    found: set[Unit] = set()
    for one in findings:
        kind, tooth = str(one["kind"]), str(one["tooth"] or "")
        found.add((image, kind, tooth, ""))
        found |= {(image, kind, tooth, surface) for surface in str(one["surfaces"] or "")}
    return frozenset(found)


# --- counting ------------------------------------------------------------------------------------


def _agreement(
    task: str, version: str, digest: str, images: Sequence[_Image], failed: int
) -> Agreement:
    pairs = [image.teeth for image in images]
    total = sum(len(a) + len(b) for a, b in pairs)
    return Agreement(
        task=task,
        version=version,
        digest=digest,
        images=len(images),
        studies=len({image.study for image in images}),
        patients=len({image.patient for image in images}),
        live=rows_of([(image.patient, image.signed, image.live) for image in images]),
        shadow=rows_of([(image.patient, image.signed, image.shadow) for image in images]),
        same_views=sum(a == b for a, b in (image.views for image in images)),
        teeth_alike=2 * sum(len(a & b) for a, b in pairs) / total if total else None,
        failed=failed,
    )


def rows_of(images: Sequence[tuple[str, frozenset[Unit], frozenset[Unit]]]) -> tuple[Row, ...]:
    """Count each kind at both levels; `images` are (patient, signed, said)."""
    names = {(unit[1], bool(unit[3])) for _, signed, said in images for unit in signed | said}
    return tuple(_row(images, kind, is_surface) for kind, is_surface in sorted(names))


def _row(
    images: Sequence[tuple[str, frozenset[Unit], frozenset[Unit]]], kind: str, is_surface: bool
) -> Row:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for patient, signed, said in images:
        mine, theirs = (
            {u for u in units if u[1] == kind and bool(u[3]) == is_surface}
            for units in (signed, said)
        )
        for place, number in enumerate((len(mine), len(theirs), len(mine & theirs))):
            counts[patient][place] += number
    table = np.array(list(counts.values()))
    kept, said_count, both = (int(v) for v in table.sum(axis=0))
    return Row(
        kind=kind,
        level="surface" if is_surface else "tooth",
        signed=kept,
        said=said_count,
        both=both,
        sensitivity=_share(table, 0),
        precision=_share(table, 1),
        is_few=min(kept, said_count) < FEW,
    )


def _share(table: np.ndarray, of: int) -> Share:
    """Give hits (column 2) per column `of` with an interval over patients, the rows of `table`."""
    whole = table[:, of].sum()
    if not whole:
        return Share(None)
    random = np.random.default_rng(0)
    drawn = table[random.integers(0, len(table), (_RESAMPLES, len(table)))].sum(axis=1)
    drawn = drawn[drawn[:, of] > 0]
    low, high = np.percentile(drawn[:, 2] / drawn[:, of], (2.5, 97.5))
    return Share(float(table[:, 2].sum() / whole), float(low), float(high))
