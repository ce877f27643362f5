"""What dentists put into teeth: fillings, crowns, root fillings, posts and implants."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from node.domain.teeth import Surface
from sample_studies.phantoms.anatomy import Placed
from sample_studies.phantoms.canvas import Canvas, Cut
from sample_studies.phantoms.lesions import Spot
from sample_studies.phantoms.materials import Map
from sample_studies.phantoms.plan import Filling
from sample_studies.phantoms.teeth import Painted, smooth

Mask = npt.NDArray[np.bool_]
Place = tuple[float, float]

_CROWNS = {"metal": "gold", "porcelain_metal": "cobalt_chrome", "zirconia": "zirconia"}


def _replace(painted: Painted, filled: Map, thick: float, material: str) -> None:
    """Take out tooth over `thick` mm of the beam's way and put `material` in."""
    total = np.maximum(painted.enamel + painted.dentine, 0.05)
    share = np.clip(thick / total, 0, 0.95) * filled
    painted.enamel *= 1 - share
    painted.dentine *= 1 - share
    painted.add(material, filled * np.minimum(thick, np.where(painted.inside, total + 0.4, thick)))


def _soft(mask: Mask, canvas: Canvas, size_mm: float) -> Map:
    sigma = max(size_mm / canvas.pixel_mm, 0.35)
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma), np.float32)


def fill(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, filling: Filling
) -> tuple[Spot | None, Spot | None, Place]:
    """Place one filling; its mask, its flaw's mask, and where its deepest margin lies."""
    tooth = painted.shape
    phase = rng.uniform(0, 6.3, 4)
    sharp = filling.material in ("gold", "lithium_disilicate")
    waver = 0.05 if sharp else 0.16
    m = painted.m + waver * (np.sin(2.3 * painted.v + phase[0]) + 0.6 * np.sin(5.1 * painted.v))
    v = painted.v + waver * (np.sin(1.9 * painted.m + phase[2]) + 0.6 * np.sin(4.4 * painted.m))
    sign = -1.0 if filling.surface is Surface.DISTAL else 1.0
    is_mesial = sign > 0
    margin: Place = (0.0, -0.5 * tooth.crown)
    flaw: Mask | None = None
    carve = float(rng.uniform(0.2, 1.3))
    level = painted.v > -(np.minimum(painted.top, tooth.crown * 0.95) - carve * 0.4)
    floor = float(rng.uniform(0.42, 0.68)) * tooth.crown
    if filling.form == "V":
        at = -float(rng.uniform(0.02, 0.28)) * tooth.crown
        round_ = (m / (0.3 * tooth.width)) ** 2 + ((v - at) / rng.uniform(0.8, 1.4)) ** 2
        shape = round_ < 1
        thick = float(rng.uniform(0.8, 1.6))
        margin = (0.0, at + 0.9)
    elif filling.form == "III":
        at = -float(rng.uniform(0.5, 0.72)) * tooth.crown
        inward = tooth.half_width(painted.v, is_mesial) - m * sign
        round_ = ((v - at) / rng.uniform(1.1, 2.2)) ** 2 + (inward / rng.uniform(1.0, 2.3)) ** 2
        shape = (round_ < 1) & (inward > -0.2)
        thick = float(rng.uniform(1.5, 3.5))
        margin = (sign * tooth.half_at(at + 1.2, is_mesial), at + 1.3)
    else:
        half = float(rng.uniform(0.16, 0.34)) * tooth.width
        middle = float(rng.normal(0, 0.06)) * tooth.width
        shape = (np.abs(m - middle) < half) & (v < -floor) & level
        thick = float(rng.uniform(2.5, 4.5))
    if filling.form == "II":
        deep = float(rng.uniform(0.1, 0.34)) * tooth.crown
        wide = float(rng.uniform(1.3, 2.6))
        inward = tooth.half_width(painted.v, is_mesial) - m * sign
        box = (inward < wide) & (v < -deep) & level & (m * sign > 0)
        shape |= box | ((m * sign > 0) & (v < -floor) & level & (inward > 0))
        edge = tooth.half_at(-deep, is_mesial)
        margin = (sign * edge, -deep + 0.15)
        thick = float(rng.uniform(2.8, 5.0))
        flaw = _flaw(rng, painted, filling.flaw, inward, deep, sign)
    shape &= painted.crown | (painted.inside & (painted.v < 1.5))
    if flaw is not None and filling.flaw == "gap":
        shape &= ~flaw
    drawn = shape | flaw if flaw is not None and filling.flaw == "overhang" else shape
    if drawn.sum() < 6:
        return None, None, margin
    filled = _soft(drawn, canvas, 0.02 if sharp or filling.material == "amalgam" else 0.08)
    _replace(painted, filled, thick, filling.material)
    if filling.flaw == "gap" and flaw is not None:
        empty = _soft(flaw & painted.inside, canvas, 0.04)
        painted.enamel *= 1 - 0.5 * empty
        painted.dentine *= 1 - 0.5 * empty
    if filling.liner and filling.form != "V":  # a base or bonding layer under it, bright or dark
        under = (_soft(drawn, canvas, 0.25) > 0.12) & ~drawn & (painted.v > -floor - 0.3)
        under &= painted.inside & (np.abs(painted.m) < 0.38 * tooth.width)
        layer = _soft(under, canvas, 0.06)
        if rng.random() < 0.5:
            painted.add("glass_ionomer", layer * 1.2)
        else:
            painted.dentine *= 1 - 0.3 * layer
    bad = None if flaw is None or flaw.sum() < 3 else Spot(flaw, 1.0)
    return Spot(drawn, 1.0), bad, margin


def _flaw(
    rng: np.random.Generator, painted: Painted, kind: str, inward: Map, deep: float, sign: float
) -> Mask | None:
    """Shape an overhang beyond the tooth or a gap at the gingival margin."""
    own_side = painted.m * sign > 0
    if kind == "overhang":
        far, tall = float(rng.uniform(0.35, 0.9)), float(rng.uniform(0.5, 1.2))
        x, y = (inward + 0.1) / far, (painted.v + deep + 0.25 * tall) / tall
        return np.asarray((x > -1) & (inward < 0.1) & (x * x + y * y < 1) & own_side)
    if kind == "gap":
        tall = float(rng.uniform(0.22, 0.45))
        return np.asarray(
            (np.abs(painted.v + deep + tall / 2) < tall / 2)
            & (inward > -0.1)
            & (inward < rng.uniform(0.7, 1.5))
            & own_side
        )
    return None


def crown(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, material: str
) -> tuple[Spot | None, Place, Place]:
    """Put a crown over the tooth; its mask and the mesial and distal margin."""
    tooth = painted.shape
    end = float(rng.uniform(-0.14, 0.08)) * tooth.crown
    lean = float(rng.normal(0, 0.08))
    cover = painted.inside & (painted.v < end + lean * painted.m)
    half = np.where(
        painted.m > 0, tooth.half_width(painted.v, True), tooth.half_width(painted.v, False)
    )
    x = np.clip(np.abs(painted.m) / np.maximum(half, 0.1), 0, 1)
    thin = float(rng.uniform(0.5, 0.9)) * 2.0
    inner = np.clip(1 - thin / 2 / np.maximum(half, 0.2), 0.1, 1)
    wall = np.where(x < inner, thin / 2 / 0.8, thin * 1.8)
    wall += smooth(painted.v + painted.top, 1.8, 0.6) * 1.2
    total = painted.enamel + painted.dentine
    body = np.minimum(wall, total)
    soft = _soft(cover, canvas, 0.03)
    stump = np.maximum(total - 2.2, 0) * soft
    painted.enamel *= 1 - soft
    painted.dentine = painted.dentine * (1 - soft) + stump * 0.9
    if material == "lithium_disilicate":
        painted.add("lithium_disilicate", soft * np.minimum(body * 2.4, total))
    elif material == "porcelain_metal":
        within = _soft(
            cover & (x < 1 - 0.5 / np.maximum(half, 0.6)) & (painted.top + painted.v > 0.8),
            canvas,
            0.03,
        )
        painted.add("cobalt_chrome", within * 1.1)
        painted.add("porcelain", soft * 1.4)
    else:
        painted.add(_CROWNS[material], soft * body)
    mask = cover & painted.inside
    places = [(s * tooth.half_at(end, s > 0), end + lean * s * tooth.neck / 2) for s in (1.0, -1.0)]
    return (Spot(mask, 1.0) if mask.sum() > 5 else None), places[0], places[1]


def fill_roots(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, short_mm: float, post: str
) -> tuple[Spot | None, Spot | None]:
    """Fill the canals with gutta-percha ending `short_mm` before the apex, one with a post."""
    tooth = painted.shape
    filled = np.zeros_like(painted.m)
    slide = canvas.beam[0] * tooth.mesial_sign + math.sin(tooth.turn)
    top = -0.1 * tooth.crown
    rods = list(tooth.roots)
    for root in rods:
        um = painted.m - root.centre(painted.v) - root.z * slide
        end = root.length - short_mm * float(rng.uniform(0.8, 1.2))
        share = np.clip(painted.v / max(end, 1.0), 0, 1)
        half = (0.6 if len(rods) == 1 else 0.45) * (1 - 0.72 * share) * float(rng.uniform(0.8, 1.3))
        rod = smooth(half - np.abs(um) + 0.06, 0, 0.14)
        rod *= (painted.v > top + (0.3 * tooth.trunk if len(rods) > 1 else 0)) & (painted.v < end)
        np.maximum(filled, rod * half * 2, out=filled)
        if short_mm < 0 and rng.random() < 0.5:  # a puff of sealer
            puff = np.hypot(um, painted.v - end) < float(rng.uniform(0.25, 0.6))
            filled[puff] = np.maximum(filled[puff], 0.5)
    painted.add("gutta_percha", filled)
    mask = filled > 0.1
    spot = Spot(mask, 1.0) if mask.sum() > 5 else None
    if not post:
        if len(rods) > 1 or rng.random() < 0.5:  # the pulp chamber's filling
            core = (np.abs(painted.m) < 0.22 * tooth.neck) & (painted.v > -0.5 * tooth.crown)
            core &= (painted.v < 0.3 * (tooth.trunk if len(rods) > 1 else 2.0)) & painted.inside
            _replace(painted, _soft(core, canvas, 0.08), 2.5, "composite")
        return spot, None
    widest = max(rods, key=lambda r: r.half)
    um = painted.m - widest.centre(painted.v) - widest.z * slide
    length = widest.length * float(rng.uniform(0.4, 0.68))
    taper = 1 - 0.3 * np.clip(painted.v / length, 0, 1) if post == "cast" else 1.0
    half_post = float(rng.uniform(0.5, 0.8)) * taper
    start = -0.45 * tooth.crown
    pin = (np.abs(um) < half_post) & (painted.v > start) & (painted.v < length) & painted.inside
    if post != "fibre":
        for sign in (1.0, -1.0) if rng.random() < 0.15 else ():  # parapulpal pins
            away = np.abs(painted.m - sign * 0.3 * tooth.neck) < 0.22
            pin |= away & (painted.v > start) & (painted.v < 0.5)
    material = {"metal": "titanium", "cast": "gold", "fibre": "composite"}[post]
    _replace(painted, _soft(pin, canvas, 0.03), 1.4 if post != "fibre" else 1.0, material)
    return spot, Spot(pin, 1.0) if pin.sum() > 5 else None


def implant(
    rng: np.random.Generator, canvas: Canvas, tooth: Placed, level: float
) -> tuple[Cut, Mask] | None:
    """Stand a threaded implant with its abutment in the place of `tooth`."""
    cut = canvas.window(tooth)
    if cut is None:
        return None
    m, v = tooth.local(canvas.xs[cut], canvas.ys[cut])
    half = float(rng.uniform(1.6, 2.4))
    length = float(rng.uniform(8, min(13.0, tooth.root + 0.5)))
    start = max(level - float(rng.uniform(0.0, 1.5)), 0.5)
    pitch, bite = float(rng.uniform(0.6, 1.1)), float(rng.uniform(0.12, 0.3))
    end = start + length
    share = np.clip((v - start) / length, 0, 1)
    wide = half * (1 - float(rng.uniform(0.0, 0.35)) * share**2)
    wave = np.abs(((v / pitch + 0.25 * np.sign(m)) % 1.0) - 0.5) * 2 - 0.5
    wide = wide + np.where(share > 0.12, bite * wave, 0)
    end_cap = np.sqrt(np.clip(1 - np.clip((v - end + 1.0) / 1.0, 0, 1) ** 2, 0.0, 1))
    wide = wide * end_cap
    body = (np.abs(m) < wide) & (v > start) & (v < end)
    neck = (np.abs(m) < half * 0.75) & (v <= start) & (v > -0.45 * tooth.crown)
    path = 2 * np.sqrt(np.clip(wide**2 - m * m, 0, None)) * body + 2.4 * neck
    hollow = (np.abs(m) < 0.7) & (v > start - 1) & (v < start + 0.45 * length)
    path = np.where(hollow, path * 0.75, path)
    canvas.paths.setdefault("titanium", np.zeros_like(canvas.xs))[cut] += path.astype(np.float32)
    return cut, body | neck
