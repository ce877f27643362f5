"""The mount: which place of the series each image fills, by a person's word before the models'.

Rows are drawn as on labial mounting: the viewer's left is the patient's right; upper periapicals
above, bitewings between, lower periapicals below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from models.slots import TEMPLATES, SlotImage
from models.slots import place as place_images
from node.db.tables import image_place, operation, user_account
from node.domain.reading import Series, StudyReading
from node.errors import InvalidInput
from node.web.facts import Facts, Row
from node.web.shapes import Mount, MountPlace, MountSlot

_ROWS: tuple[tuple[str, ...], ...] = (
    ("PAN",),
    (
        *("UR-MOL-PA", "UR-PM-PA", "UR-PA", "UR-CAN-PA", "UR-INC-PA", "U-INC-PA"),
        *("UL-INC-PA", "UL-CAN-PA", "UL-PA", "UL-PM-PA", "UL-MOL-PA"),
    ),
    (
        *("R-MOL-BW", "R-PM-BW", "R-BW", "R-CAN-BW", "R-INC-BW", "INC-BW"),
        *("L-INC-BW", "L-CAN-BW", "L-BW", "L-PM-BW", "L-MOL-BW"),
    ),
    (
        *("LR-MOL-PA", "LR-PM-PA", "LR-PA", "LR-CAN-PA", "LR-INC-PA", "L-INC-PA", "L-MID-INC-PA"),
        *("LL-INC-PA", "LL-CAN-PA", "LL-PA", "LL-PM-PA", "LL-MOL-PA"),
    ),
)
_PLACE_WORDS = {
    "UR": "upper right", "UL": "upper left", "LR": "lower right", "LL": "lower left",
    "U": "upper", "L": "lower", "R": "right", "MOL": "molars", "PM": "premolars",
    "CAN": "canine", "INC": "incisors", "MID": "middle", "BW": "bitewing", "PA": "periapical",
    "PAN": "panoramic",
}  # fmt: skip
#: Every code that an image may be put at.
CODES = frozenset(code for row in _ROWS for code in row)
#: Chosen in a template's stead: every image beside the others, on no place.
LOOSE = "LOOSE"


def compose_mount(conn: sa.Connection, facts: Facts, reading: StudyReading | None) -> Mount:
    """Lay the study's images out: what people placed, else what the models say, else loose.

    `reading` is what is stored of the study, None where AI content is not shown.
    """
    chosen = _chosen(conn, facts.study.id)
    series = _series(reading, chosen)
    placed = _placed(conn, facts.study.id)
    known = {image.id for image in facts.images}
    by_person = {i: row for i, row in placed.items() if i in known}
    allowed = slots_of(chosen) if chosen else CODES
    at: dict[str, tuple[str, bool]] = {
        row.slot: (image_id, True) for image_id, row in by_person.items() if row.slot in allowed
    }
    for place in series.places if series else ():
        if place.instance_id in known and not _has_place(by_person, place.instance_id, allowed):
            at.setdefault(place.slot, (place.instance_id, False))
    template = chosen or _template(series, set(at), len(facts.images))
    shown = set(at) | {slot.code for slot in TEMPLATES.get(template, ())}
    rows = tuple(
        tuple(_slot(code, at.get(code), by_person) for code in row if code in shown)
        for row in _ROWS
    )
    filled = {image_id for image_id, _ in at.values()}
    return Mount(
        template=template,
        chosen=chosen,
        templates=tuple(TEMPLATES),
        rows=tuple(row for row in rows if row),
        loose=tuple(image.id for image in facts.images if image.id not in filled),
        hangs=tuple(
            MountPlace(
                image_id=image_id,
                slot=row.slot,
                quarter_turns=row.quarter_turns,
                is_mirrored=row.is_mirrored,
                by=row.display_name,
            )
            for image_id, row in sorted(by_person.items())
        ),
    )


def check_template(name: str) -> None:
    """Raise InvalidInput unless `name` may be chosen."""
    if name not in ("", LOOSE, *TEMPLATES):
        raise InvalidInput("There is no such mount.")


def slots_of(template: str) -> frozenset[str]:
    """The codes of a template; empty for an unknown one."""
    return frozenset(slot.code for slot in TEMPLATES.get(template, ()))


def slot_words(code: str) -> str:
    """Name a place: ``UR-MOL-PA`` is the upper right molars' periapical."""
    parts = code.split("-")
    if parts == ["L", "INC", "PA"]:
        return "lower incisors periapical"
    if parts[0] == "L" and parts[-1] == "BW":
        parts[0] = "left"
    return " ".join(_PLACE_WORDS.get(part, part) for part in parts)


def _chosen(conn: sa.Connection, study_id: str) -> str:
    """The template that a person chose last; empty where nobody did."""
    rows = conn.execute(
        sa.select(operation.c.data, operation.c.outcome)
        .where(operation.c.study_id == study_id, operation.c.kind == "template")
        .order_by(operation.c.at.desc(), operation.c.op_id.desc())
    )
    applied = (row.data for row in rows if row.outcome.get("status") == "applied")
    return next((str(data["template"]) for data in applied), "")


def _series(reading: StudyReading | None, chosen: str) -> Series | None:
    """What the models say of the places, laid into the template that a person chose."""
    if reading is None or chosen == LOOSE:
        return None
    if not chosen:
        return reading.facts.series
    images = [
        SlotImage(image.instance_id, image.view, frozenset(image.teeth), image.quality)
        for image in reading.facts.images
    ]
    return place_images(images, chosen)


def _has_place(by_person: Mapping[str, Row], image_id: str, allowed: frozenset[str]) -> bool:
    """Whether a person said where an image hangs: at a place shown here, or at none."""
    row = by_person.get(image_id)
    return row is not None and (not row.slot or row.slot in allowed)


def _template(series: Series | None, used: set[str], images: int) -> str:
    """The models' template while it holds every place in use, else the smallest that does."""
    if series is not None and used <= slots_of(series.template):
        return series.template
    if not used:
        return ""
    fitting = [name for name in TEMPLATES if used <= slots_of(name)]
    roomy = [name for name in fitting if len(TEMPLATES[name]) >= images] or fitting
    return min(roomy, key=lambda name: len(TEMPLATES[name]), default="")


def _slot(code: str, held: tuple[str, bool] | None, people: Mapping[str, Row]) -> MountSlot:
    image_id, is_by_person = held if held else (None, False)
    return MountSlot(
        code=code,
        words=slot_words(code),
        teeth=_teeth(code),
        image_id=image_id,
        placed_by=people[image_id].display_name if image_id and is_by_person else None,
    )


def _teeth(code: str) -> tuple[str, ...]:
    for slots in TEMPLATES.values():
        for slot in slots:
            if slot.code == code:
                return tuple(sorted(tooth.code for tooth in slot.teeth))
    return ()


def _placed(conn: sa.Connection, study_id: str) -> dict[str, Row]:
    rows: Sequence[Row] = conn.execute(
        sa.select(image_place, user_account.c.display_name)
        .join(user_account, user_account.c.id == image_place.c.placed_by)
        .where(image_place.c.study_id == study_id)
        .order_by(image_place.c.placed_at, image_place.c.instance_id)
    ).all()
    return {row.instance_id: row for row in rows}
