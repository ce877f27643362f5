"""Stand the teeth of a patient in rows and aim the film at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from node.domain.findings import Point
from node.domain.teeth import Arch, Tooth
from sample_studies.phantoms.anatomy import Placed, make
from sample_studies.phantoms.canvas import Aim
from sample_studies.phantoms.plan import Condition, Mouth, Prevalence, condition, losses


@dataclass(frozen=True, slots=True, eq=False)
class Stood:
    """One place in the row: the tooth (or the shape of what is missing) and its condition."""

    shape: Placed
    state: Condition

    @property
    def has_bone_level(self) -> bool:
        """Whether a natural, erupted tooth with its CEJ stands here."""
        return self.state.state == "present"


def draw_aim(rng: np.random.Generator, odds: Prevalence) -> Aim:
    """Draw how a film is aimed: mostly well, sometimes turned, steep or from the side."""
    turn = float(rng.normal(0, 2.5))
    side = float(rng.normal(0, 0.045))
    steep = float(rng.normal(0, 0.08))
    elongation = float(np.exp(rng.normal(0, 0.04)))
    if rng.random() < 0.15 * odds.flaws:
        turn = float(rng.uniform(-16, 16))
    if rng.random() < 0.2 * odds.flaws:
        side = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.12, 0.32))
    if rng.random() < 0.12 * odds.flaws:
        elongation = float(rng.choice([rng.uniform(0.72, 0.86), rng.uniform(1.16, 1.38)]))
        steep += float(rng.choice([-0.2, 0.2]))
    return Aim(float(np.radians(turn)), elongation, (side, steep))


def row(
    mouth: Mouth,
    teeth: Sequence[Tooth],
    start: float,
    occlusal: float,
    odds: Prevalence,
    magnification: float,
) -> list[Stood]:
    """Stand `teeth` side by side from x = `start`, their cusps at y = `occlusal`, mouth mm."""
    stood: list[Stood] = []
    x = start
    last: Tooth | None = None
    for tooth in teeth:
        rng = np.random.default_rng((mouth.seed, int(tooth.code), 0))
        shape = make(rng, tooth, mouth.scale * magnification, mouth.wear, mouth.pulp)
        state = condition(mouth, tooth, odds)
        mesial, distal, at_mesial, at_distal, furcation = losses(mouth, tooth, shape.root, odds)
        right_is_mesial = shape.mesial_sign > 0
        loss = (distal, mesial) if right_is_mesial else (mesial, distal)
        angular = (at_distal, at_mesial) if right_is_mesial else (at_mesial, at_distal)
        room = shape.width * (float(rng.uniform(0.45, 1.0)) if state.state == "missing" else 1.0)
        gap = abs(float(rng.normal(0, 0.07)))
        if last is not None and rng.random() < 0.1:
            gap = float(rng.uniform(0.1, 1.2))  # an open contact
        if tooth.position <= 3 and rng.random() < 0.15:
            gap = -float(rng.uniform(0.3, 1.6))  # crowding
        middle = tooth.position == 1 and last is not None and last.position == 1
        if middle and rng.random() < 0.15:
            gap = float(rng.uniform(0.5, 2.5))
        x += gap if last is not None else 0.0
        drop = float(rng.normal(0, 0.35)) - (0.9 if tooth.position == 2 else 0.0) * 0.6
        rows = 1.0 if tooth.arch is Arch.UPPER else -1.0
        height = occlusal - rows * (shape.crown * (1 - shape.wear) - drop)
        tilt = shape.tilt
        if tooth.position == 3:
            tilt += 0.05 * shape.mesial_sign
        if tooth.position >= 7 and tooth.arch is Arch.LOWER:
            tilt += float(rng.uniform(0.0, 0.2)) * shape.mesial_sign
        deepest = 0.85 * shape.root
        placed = replace(
            shape,
            # Neighbours meet at their contacts, whichever way their roots lean.
            x=x + room / 2 - 0.58 * shape.crown * float(np.sin(tilt)),
            y=height,
            tilt=tilt,
            loss=(min(loss[0], deepest), min(loss[1], deepest)),
            angular=angular,
            furcation=furcation,
        )
        stood.append(Stood(placed, state))
        x += room
        last = tooth
    return _bridged(stood)


def _bridged(stood: list[Stood]) -> list[Stood]:
    """Give the neighbours of a pontic the crowns that carry it; without two it is a gap."""
    for place, one in enumerate(stood):
        if one.state.state != "pontic":
            continue
        beside = [p for p in (place - 1, place + 1) if 0 <= p < len(stood)]
        carried = all(stood[p].state.state == "present" for p in beside) and len(beside) == 2
        if not carried:
            stood[place] = replace(one, state=Condition("missing"))
            continue
        for p in beside:
            state = replace(
                stood[p].state, crown=one.state.crown, fillings=(), caries=(), occlusal=None
            )
            stood[p] = replace(stood[p], state=state)
    return stood


def moved(stood: Sequence[Stood], dx: float, dy: float = 0.0) -> list[Stood]:
    """Shift a row, mouth mm."""
    return [
        replace(one, shape=replace(one.shape, x=one.shape.x + dx, y=one.shape.y + dy))
        for one in stood
    ]


def impacted(rng: np.random.Generator, one: Stood, neighbour: Placed) -> Stood:
    """Lay a third molar deep behind its neighbour, leaning on it."""
    shape = one.shape
    distal = -shape.mesial_sign
    lean = float(rng.choice([0.5, 1.0, 1.5], p=[0.4, 0.35, 0.25]) * rng.uniform(0.8, 1.1))
    down = -shape.crown_sign
    x = neighbour.x + distal * (neighbour.width / 2 + 4.5 + 2.5 * np.sin(lean))
    y = neighbour.y + down * float(rng.uniform(1.0, 5.0))
    placed = replace(shape, tilt=lean * shape.mesial_sign, x=float(x), y=float(y))
    return Stood(placed, Condition("impacted"))


def ridge_points(rng: np.random.Generator, stood: Sequence[Stood], mouth: Mouth) -> list[Point]:
    """Give points of the ridge where no tooth stands and behind the last molar, mouth mm."""
    points: list[Point] = []
    for one in stood:
        if one.state.state in ("missing", "implant", "pontic", "remnant"):
            sunk = mouth.bone_mm + float(rng.uniform(0.0, 2.0))
            shape = one.shape
            for share in (-0.3, 0.3):
                points.append(shape.mouth(share * shape.width, sunk + abs(share)))
    for one in (stood[0], stood[-1]) if stood else ():
        shape = one.shape
        if shape.tooth.position < 7 or one.state.state == "impacted":
            continue
        distal = -shape.mesial_sign
        down = -shape.crown_sign
        base_y = shape.y + down * mouth.bone_mm
        edge = shape.x + distal * shape.width / 2
        if shape.tooth.arch is Arch.LOWER:
            rise = float(rng.uniform(0.2, 1.1))
            points.append((edge + distal * 3.0, base_y - down * 0.5))
            points.append((edge + distal * 14.0, base_y - down * (0.5 + 11 * rise)))
        else:
            fall = float(rng.uniform(0.2, 1.2))
            points.append((edge + distal * 3.5, base_y + down * 0.8))
            points.append((edge + distal * 7.0, base_y + down * (0.8 + 5 * fall)))
            points.append((edge + distal * 10.0, base_y + down * (3 + 12 * fall)))
    return points
