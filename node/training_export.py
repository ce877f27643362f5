"""Signed reviews as training data that name nobody: ``bitewing export-training``.

A practice opts in with ``[analysis] training_export = true``. The folder holds pixels re-encoded
without metadata and what the dentists decided: accepted, edited and added findings, rejected
suggestions as hard negatives, and the teeth as the models numbered them (nobody verifies those).
No date, UID, name or free text; ids are keyed hashes whose key never leaves the data folder.
Source: the safe-harbour list of 45 CFR 164.514(b)(2), applied to what a review holds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.config import Config
from node.db.session import Actor, begin, read
from node.db.tables import analysis_run, finding, instance, review, study, tooth_mark
from node.dicom import burned_in
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile, read_dataset
from node.dicom.pixels import model_input, read_header
from node.domain.findings import DecisionState, View
from node.domain.review import SignedReview, finding_to_json
from node.domain.study import StudyState
from node.domain.teeth import DECIDUOUS, PERMANENT
from node.errors import ConfigError, InvalidInput, Rejected

FORMAT = "bitewing-training/1"
#: The views a task learns from.
TASK_VIEWS: Mapping[str, tuple[View, ...]] = {
    "intraoral": (View.BITEWING, View.PERIAPICAL),
    "panoramic_caries": (View.PANORAMIC,),
}
_KEY_FILE = "training-export.key"
_ORIGINS = {"ai": "model", "human": "person"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to export: reviews signed from `since` on, films of one task or of all."""

    out: Path
    since: date | None = None
    task: str = ""
    include_burned_in: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote and what it left out, in numbers."""

    images: int
    patients: int
    findings: int
    hard_negatives: int
    left_out_burned_in: int
    left_out_unreadable: int
    left_out_view: int


@dataclass(frozen=True, slots=True)
class _Film:
    """One signed image and the review that covers it."""

    row: sa.Row  # type: ignore[type-arg]
    patient_id: str
    review: SignedReview


def export_training(
    db: sa.Engine,
    store: InstanceStore,
    config: Config,
    wish: Wish,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the signed reviews of this location to a new folder, and say so in the audit.

    `progress` hears how many images are done, of how many.

    Raises
    ------
    Rejected
        The practice has not opted in.
    InvalidInput
        The folder exists already or the task is unknown.
    """
    if not config.analysis.training_export:
        raise Rejected(
            "this practice has not opted in to training exports; "
            "set training_export = true under [analysis] once that is decided"
        )
    if wish.task and wish.task not in TASK_VIEWS:
        raise InvalidInput(f"no training data for {wish.task!r}; known: {', '.join(TASK_VIEWS)}")
    if wish.out.exists():
        raise InvalidInput(f"{wish.out} exists already; name a new folder")
    key = _read_key(config.node.data_dir / _KEY_FILE)
    location = config.node.location_id
    part = wish.out.with_name(wish.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "images").mkdir(parents=True)
    try:
        done = _fill(db, store, config, wish, key, part, progress or (lambda done, total: None))
        with begin(db, Actor("cli", location), "training.exported") as tx:
            tx.record(
                f"training:{_name(key, 'export', secrets.token_hex(8))}",
                images=done.images,
                patients=done.patients,
                findings=done.findings,
                task=wish.task or "all",
                since=wish.since.isoformat() if wish.since else None,
                include_burned_in=wish.include_burned_in,
            )
        part.replace(wish.out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return done


def _read_key(path: Path) -> bytes:
    """Read the key of the ids, making it (mode 0600) when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
    else:
        key = secrets.token_bytes(32)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
    if len(key) != 32:
        raise ConfigError(f"{path} is not a 32-byte key; restore it from the backup")
    return key


def _name(key: bytes, kind: str, value: str) -> str:
    """Give an id that means nothing without the key and is the same in every export."""
    return hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()[:20]


@dataclass(slots=True)
class _Contents:
    """What the folder will hold, and how many images stay out for which reason."""

    images: list[dict[str, object]] = field(default_factory=list)
    annotations: list[dict[str, object]] = field(default_factory=list)
    rejected: list[dict[str, object]] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)
    burned_in: int = 0
    unreadable: int = 0
    other_view: int = 0

    def summary(self) -> Exported:
        """Count what there is."""
        findings = sum(item["role"] == "finding" for item in self.annotations)
        return Exported(
            len(self.images),
            len(self.patients),
            findings,
            len(self.rejected),
            self.burned_in,
            self.unreadable,
            self.other_view,
        )


def _fill(
    db: sa.Engine,
    store: InstanceStore,
    config: Config,
    wish: Wish,
    key: bytes,
    part: Path,
    progress: Callable[[int, int], None],
) -> Exported:
    contents = _Contents()
    views = TASK_VIEWS.get(wish.task, tuple(View))
    with read(db) as conn:
        # sorted by what means nothing, so that the order tells no time
        films = sorted(_films(conn, config, wish), key=lambda f: _name(key, "image", f.row.id))
        for number, film in enumerate(films):
            progress(number, len(films))
            run = _latest_run(conn, film.row.id)
            path = store.file(film.row.storage_key)
            if run is None or run.view is None or View(run.view) not in views:
                contents.other_view += 1
            elif not wish.include_burned_in and _may_be_lettered(conn, film.row.id, path):
                contents.burned_in += 1
            else:
                _add(conn, contents, film, run, path, key, part)
    _write_folder(part, contents)
    return contents.summary()


def _add(
    conn: sa.Connection,
    contents: _Contents,
    film: _Film,
    run: sa.Row,  # type: ignore[type-arg]
    path: ObjectFile,
    key: bytes,
    part: Path,
) -> None:
    name = _name(key, "image", film.row.id)
    try:
        written = _write_pixels(path, part / "images" / f"{name}.png")
    except InvalidInput:
        contents.unreadable += 1
        return
    number, group = len(contents.images) + 1, _name(key, "patient", film.patient_id)
    contents.patients.add(group)
    contents.images.append(
        {
            "id": number,
            "file_name": f"{name}.png",
            "group": group,
            "device": _device(key, path),
            "view": run.view,
            "orientation": run.orientation,
            "spacing_mm": _spacing(film.row),
            **written,
        }
    )
    contents.annotations += _annotations(conn, film, run.id, number)
    contents.rejected += _rejected(conn, film.row.id, number)


# --- what the database says ----------------------------------------------------------------------


def _films(conn: sa.Connection, config: Config, wish: Wish) -> list[_Film]:
    """List the images of the latest signed version of every signed study."""
    latest = (
        sa.select(review.c.study_id, sa.func.max(review.c.version).label("version"))
        .group_by(review.c.study_id)
        .subquery()
    )
    query = (
        sa.select(review, study.c.patient_id)
        .join(study, study.c.id == review.c.study_id)
        .join(
            latest,
            sa.and_(latest.c.study_id == review.c.study_id, latest.c.version == review.c.version),
        )
        .where(
            review.c.location_id == config.node.location_id,
            study.c.state == StudyState.SIGNED.value,
            study.c.patient_id.is_not(None),
        )
    )
    if wish.since is not None:
        start = datetime.combine(wish.since, time(), config.zone).astimezone(UTC)
        query = query.where(review.c.signed_at >= start)
    films = []
    for row in conn.execute(query).all():
        signed = SignedReview.from_json(row.content)
        ids = [one for one, _ in signed.instances]
        found = conn.execute(sa.select(instance).where(instance.c.id.in_(ids))).all()
        films += [_Film(image, row.patient_id, signed) for image in found]
    return films


def _latest_run(conn: sa.Connection, instance_id: str) -> sa.Row | None:  # type: ignore[type-arg]
    return conn.execute(
        sa.select(analysis_run)
        .where(analysis_run.c.instance_id == instance_id)
        .order_by(analysis_run.c.finished_at.desc())
    ).first()


def _annotations(
    conn: sa.Connection, film: _Film, run_id: str, number: int
) -> list[dict[str, object]]:
    """Write the teeth as the models numbered them and the findings as they were signed."""
    marks = conn.execute(
        sa.select(tooth_mark).where(tooth_mark.c.run_id == run_id).order_by(tooth_mark.c.tooth)
    ).all()
    teeth = [
        {
            "image_id": number,
            "role": "tooth",
            "category": mark.tooth,
            "bbox": _corner_and_size([mark.box[:2], mark.box[2:]]),
            "segmentation": _ring(mark.outline),
            "is_verified": False,
        }
        for mark in marks
    ]
    signed = [
        {
            "image_id": number,
            "role": "finding",
            "state": "added" if item.origin == "human" else item.state.value,
            "origin": _ORIGINS[item.origin],
            "is_verified": True,
            **_plain(finding_to_json(item.finding)),
        }
        for item in film.review.findings
        if item.instance_id == film.row.id
    ]
    return [*teeth, *signed]


def _rejected(conn: sa.Connection, instance_id: str, number: int) -> list[dict[str, object]]:
    """List the suggestions a dentist rejected on this image."""
    rows = conn.execute(
        sa.select(finding)
        .where(
            finding.c.instance_id == instance_id,
            finding.c.state == DecisionState.REJECTED.value,
            finding.c.origin == "ai",
            sa.not_(finding.c.is_removed),
        )
        .order_by(finding.c.kind, finding.c.probability)
    ).all()
    return [{"image_id": number, "role": "rejected", **_plain(dict(r._mapping))} for r in rows]


def _plain(item: Mapping[str, object]) -> dict[str, object]:
    """Keep of a finding what was seen, and nothing that was written about it."""
    geometry = item["geometry"]
    assert isinstance(geometry, Mapping)
    points = geometry["points"]
    assert isinstance(points, Sequence)
    is_ring = geometry["type"] == "polygon"
    return {
        "category": item["kind"],
        "bbox": _corner_and_size(points),
        "segmentation": _ring(points if is_ring else None),
        "line": points if geometry["type"] == "line" else None,
        "tooth": item["tooth"],
        "surfaces": item["surfaces"],
        "depth": item["depth"],
        "value_mm": item["value_mm"],
        "value_percent": item["value_percent"],
        "probability": item["probability"],
    }


def _corner_and_size(points: Sequence[Sequence[float]]) -> list[float]:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    size = (max(xs) - min(xs), max(ys) - min(ys))
    return [round(float(v), 2) for v in (min(xs), min(ys), *size)]


def _ring(points: Sequence[Sequence[float]] | None) -> list[list[float]]:
    return [[float(v) for point in points for v in point]] if points else []


def _spacing(row: sa.Row) -> list[float] | None:  # type: ignore[type-arg]
    is_known = row.spacing_kind != "unknown" and row.spacing_mm_row and row.spacing_mm_col
    return [row.spacing_mm_row, row.spacing_mm_col] if is_known else None


# --- pixels --------------------------------------------------------------------------------------


def _may_be_lettered(conn: sa.Connection, image_id: str, path: ObjectFile) -> bool:
    """Whether lettering was seen or is not denied, and no person let the image go."""
    if burned_in.doubted(conn, [image_id]):
        return True
    return not _is_clean(path) and not burned_in.is_released(conn, image_id)


def _is_clean(path: ObjectFile) -> bool:
    """Whether the file says that nothing is burned into its pixels; silence is doubt.

    Source: PS3.3 C.7.6.1, Burned In Annotation (0028,0301).
    """
    ds = _read_tags(path, "BurnedInAnnotation")
    return str(ds.get("BurnedInAnnotation", "")).strip().upper() == "NO"


def _device(key: bytes, path: ObjectFile) -> str:
    """Name the make and model of the machine by an id, so that machines can be kept apart."""
    ds = _read_tags(path, "Manufacturer", "ManufacturerModelName")
    told = f"{ds.get('Manufacturer', '')}|{ds.get('ManufacturerModelName', '')}"
    return _name(key, "device", told)[:8] if told != "|" else ""


def _read_tags(path: ObjectFile, *keywords: str) -> Dataset:
    """Read a few attributes; a header that cannot be read says nothing."""
    try:
        return read_dataset(path, stop_before_pixels=True, specific_tags=keywords)
    except (InvalidDicomError, OSError, ValueError, LookupError, AttributeError, Warning):
        return Dataset()


def _write_pixels(path: ObjectFile, out: Path) -> dict[str, object]:
    """Write what the networks saw as a bare PNG; give its size and depth."""
    image, _ = model_input(path)
    bits = 8 if (read_header(path).bits_stored or 16) <= 8 else 16
    kind = np.uint8 if bits == 8 else np.uint16
    grey = np.round(np.clip(image, 0.0, 1.0) * (2**bits - 1)).astype(kind)
    Image.fromarray(grey).save(out, format="PNG")
    return {"width": int(grey.shape[1]), "height": int(grey.shape[0]), "bits": bits}


# --- the folder ----------------------------------------------------------------------------------


def _write_folder(part: Path, contents: _Contents) -> None:
    """Write the COCO file; rejected suggestions stand apart, so that no tool takes them as true."""
    annotations, rejected = contents.annotations, contents.rejected
    codes = [tooth.code for tooth in (*PERMANENT, *DECIDUOUS)]
    kinds = sorted({str(item["category"]) for item in (*annotations, *rejected)} - set(codes))
    numbers = {name: number for number, name in enumerate((*codes, *kinds), start=1)}
    body = {
        "info": {"format": FORMAT, "origin": "real", "source": "signed reviews"},
        "images": contents.images,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [_coco(n, item, numbers) for n, item in enumerate(annotations, start=1)],
        "rejected": [_coco(n, item, numbers) for n, item in enumerate(rejected, start=1)],
    }
    text = json.dumps(body, indent=1)
    (part / "annotations.coco.json").write_text(text + "\n", encoding="utf-8")
    (part / "README.md").write_text(_README, encoding="utf-8")


def _coco(number: int, item: Mapping[str, object], numbers: Mapping[str, int]) -> dict[str, object]:
    kept = {name: value for name, value in item.items() if name != "category"}
    return {"id": number, "category_id": numbers[str(item["category"])], "iscrowd": 0, **kept}


_README = """# Training data from signed reviews

Written by `bitewing export-training`; format `bitewing-training/1`, a COCO file with extra keys.

- `images/`: the pixels the networks saw, as PNG without metadata. Names are keyed hashes; the key
  stays with the practice.
- `annotations`: findings as dentists signed them (`role` finding) and teeth as a model numbered
  them (`role` tooth, verified by nobody). `rejected`: suggestions a dentist turned down.
- No names, dates, UIDs, ages or free text are in this folder.

**What remains a risk.** A radiograph can carry text in its pixels; images that do not declare
themselves free of it were left out unless the exporter asked for them: look through them. A
radiograph is itself a mark of identity to somebody who has another one of the same mouth. Treat the
folder as health data, and keep to what the practice and its patients agreed to.
"""
