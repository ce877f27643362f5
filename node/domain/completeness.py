"""Whether the images are there that were asked for, and show what a series must show.

Two questions, both without counting on any fixed number of images: what the scheduled or charted
procedures ask for against what arrived, and six items about teeth, contacts, crests and areas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from node.domain.findings import BoneSite, Box, QualityFlag, QualityKind, View
from node.domain.reading import Arrival, Check, Outcome, ProcedureCheck, Series
from node.domain.schedule import imaging_code
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Surface, Tooth

#: A full-mouth series has this many images; no body fixes a number.
_SERIES = (14, 22)
_VERTICAL = (7, 8)
#: An apex must lie this far from the border, mm; and as a share of the side without a spacing.
_APEX_MM, _APEX_SHARE = 2.0, 0.05

_BITEWINGS = frozenset({"D0270", "D0272", "D0273", "D0274", "D0277", "D0708"})
_PERIAPICALS = frozenset({"D0220", "D0230", "D0707"})
_FULL = frozenset({"D0210", "D0709"})
_OCCLUSALS = frozenset({"D0240", "D0706"})
_PANORAMICS = frozenset({"D0330", "D0701"})
_CEPHALOMETRICS = frozenset({"D0340", "D0702"})
_INTRAORAL = (View.BITEWING, View.PERIAPICAL, View.OCCLUSAL)
_GROUPS: tuple[tuple[frozenset[str], tuple[View, ...], str], ...] = (
    (_BITEWINGS, (View.BITEWING,), "bitewing"),
    (_PERIAPICALS, (View.PERIAPICAL,), "periapical"),
    (_OCCLUSALS, (View.OCCLUSAL,), "occlusal image"),
    (_PANORAMICS, (View.PANORAMIC,), "panoramic"),
    (_CEPHALOMETRICS, (View.CEPHALOMETRIC,), "cephalometric"),
)


@dataclass(frozen=True, slots=True)
class SeenImage:
    """What one image shows, for the completeness test; boxes and points in its pixels."""

    instance_id: str
    view: View | None
    rows: int
    cols: int
    spacing_mm: tuple[float, float] | None
    teeth: Mapping[Tooth, Box]
    sites: tuple[BoneSite, ...] = ()
    flags: tuple[QualityFlag, ...] = ()

    def is_cut(self, tooth: Tooth) -> bool:
        """Whether the tooth runs out of the image sideways."""
        box = self.teeth[tooth]
        return box.x0 <= 1 or box.x1 >= self.cols - 1

    def overlaps(self, first: Tooth, second: Tooth) -> bool:
        """Whether the contact of two neighbours is closed here."""
        return any(
            flag.kind is QualityKind.OVERLAP and {first, second} <= set(flag.teeth)
            for flag in self.flags
        )

    def shows_apex(self, tooth: Tooth) -> bool:
        """Whether an apex of the tooth lies inside with the bone beyond it."""
        if self.view is View.PANORAMIC:
            return tooth in self.teeth
        if any(f.kind is QualityKind.APEX_CUT and tooth in f.teeth for f in self.flags):
            return False
        return any(site.tooth == tooth and self._is_inside(site) for site in self.sites)

    def _is_inside(self, site: BoneSite) -> bool:
        if site.apex is None:
            return False
        row_mm, col_mm = self.spacing_mm or (0.0, 0.0)
        down = _APEX_MM / row_mm if row_mm else _APEX_SHARE * self.rows
        side = _APEX_MM / col_mm if col_mm else _APEX_SHARE * self.cols
        x, y = site.apex
        return min(x, self.cols - x) >= side / 2 and min(y, self.rows - y) >= down


def procedure_checks(
    cdt_codes: Sequence[str], views: Sequence[View | None]
) -> tuple[ProcedureCheck, ...]:
    """Compare what procedures ask for with the views that arrived; silent without a number.

    `cdt_codes` are repeated as often as they are charted. A full-mouth series takes the intraoral
    codes beside it along.
    """
    codes = [code.strip().upper() for code in cdt_codes]
    if any(code in _FULL for code in codes):
        intraoral = [c for c in codes if c in _FULL | _BITEWINGS | _PERIAPICALS | _OCCLUSALS]
        low, high = _wanted(intraoral)
        arrived = sum(view in _INTRAORAL for view in views)
        found = [_procedure(intraoral, "intraoral image", low, high, arrived)]
        groups = _GROUPS[3:]
    else:
        found, groups = [], _GROUPS
    for members, wanted_views, word in groups:
        mine = [code for code in codes if code in members]
        if mine:
            low, high = _wanted(mine)
            arrived = sum(view in wanted_views for view in views)
            found.append(_procedure(mine, word, low, high, arrived))
    return tuple(found)


def six_items(images: Sequence[SeenImage], series: Series | None) -> tuple[Check, ...]:
    """Test what a comprehensive series must show; each item passes, fails or does not apply.

    The items do not count images. Teeth are those that any image shows.
    """
    teeth = sorted({tooth for image in images for tooth in image.teeth if not tooth.is_deciduous})
    return (
        _apices(images, teeth),
        _contacts(images, teeth),
        _crests(images, teeth),
        _bitewing_ends(images, teeth),
        _areas(images, teeth),
        _flaws(images, series),
    )


def _wanted(codes: Sequence[str]) -> tuple[int, int]:
    low = high = 0
    for code in codes:
        if code in _FULL:
            least, most = _SERIES
        elif code == "D0277":
            least, most = _VERTICAL
        else:
            known = imaging_code(code)
            least = most = (known.images or 0) if known else 0
        low, high = low + least, high + most
    return low, high


def _procedure(
    codes: Sequence[str], word: str, low: int, high: int, arrived: int
) -> ProcedureCheck:
    come = f"{arrived} {word}{'' if arrived == 1 else 's'}"
    asked = str(low) if low == high else f"{low} to {high}"
    if arrived < low:
        words = f"{come} of the {asked} asked for: is one missing?"
        state = Arrival.SHORT
    elif arrived > high:
        words = f"{come}, {asked} asked for: is one a retake?"
        state = Arrival.OVER
    else:
        words, state = f"{come}, as asked for", Arrival.COMPLETE
    return ProcedureCheck(tuple(codes), low, arrived, state, words)


def _apices(images: Sequence[SeenImage], teeth: Sequence[Tooth]) -> Check:
    name = "every apex with the bone beyond it"
    if not any(image.view in (View.PERIAPICAL, View.PANORAMIC) for image in images):
        return Check(1, name, Outcome.NOT_APPLICABLE, "no periapical or panoramic")
    unseen = [t for t in teeth if not any(image.shows_apex(t) for image in images)]
    return _check(1, name, teeth, unseen, "no apex seen")


def _contacts(images: Sequence[SeenImage], teeth: Sequence[Tooth]) -> Check:
    name = "every back contact open once"
    intraoral = [i for i in images if i.view in (View.BITEWING, View.PERIAPICAL)]
    pairs = list(_contacts_of(teeth))
    if not intraoral or not pairs:
        return Check(2, name, Outcome.NOT_APPLICABLE, "no bitewing or periapical of back teeth")
    closed = [
        f"#{a.universal}-#{b.universal}"
        for a, b in pairs
        if any({a, b} <= set(i.teeth) for i in intraoral)
        and not any({a, b} <= set(i.teeth) and not i.overlaps(a, b) for i in intraoral)
    ]
    if closed:
        return Check(2, name, Outcome.FAIL, f"closed on every image: {', '.join(closed)}")
    return Check(2, name, Outcome.PASS)


def _contacts_of(teeth: Sequence[Tooth]) -> Iterator[tuple[Tooth, Tooth]]:
    """Give neighbours from the canine's distal surface to the last molar."""
    for arch in (UPPER_ARCH, LOWER_ARCH):
        here = [tooth for tooth in arch if tooth in teeth]
        for a, b in pairwise(here):
            same_side = a.quadrant == b.quadrant
            if same_side and abs(a.position - b.position) == 1 and min(a.position, b.position) >= 3:
                yield a, b


def _crests(images: Sequence[SeenImage], teeth: Sequence[Tooth]) -> Check:
    name = "crest at both sides of every tooth"
    seen = {(site.tooth, site.surface) for image in images for site in image.sites}
    if not seen:
        return Check(3, name, Outcome.NOT_APPLICABLE, "no crest was measured")
    unseen = [
        tooth for tooth in teeth if not {(tooth, Surface.MESIAL), (tooth, Surface.DISTAL)} <= seen
    ]
    return _check(3, name, teeth, unseen, "a crest not seen")


def _bitewing_ends(images: Sequence[SeenImage], teeth: Sequence[Tooth]) -> Check:
    name = "bitewings reach the last molar and the canine"
    bitewings = [image for image in images if image.view is View.BITEWING]
    if not bitewings:
        return Check(4, name, Outcome.NOT_APPLICABLE, "no bitewing")
    shown = {t for image in bitewings for t in image.teeth}
    whole = {t for image in bitewings for t in image.teeth if not image.is_cut(t)}
    missed = []
    for quadrant in sorted({tooth.quadrant for tooth in shown}):
        here = [t for t in teeth if t.quadrant == quadrant]
        molars = [t for t in here if t.position >= 6]
        if molars and (last := max(molars, key=lambda t: t.position)) not in whole:
            missed.append(last)
        canine = next((t for t in here if t.position == 3), None)
        if canine is not None and canine not in shown:
            missed.append(canine)
    return _check(4, name, teeth, missed, "not reached")


def _areas(images: Sequence[SeenImage], teeth: Sequence[Tooth]) -> Check:
    name = "third molar and toothless areas covered"
    if any(image.view is View.PANORAMIC for image in images):
        return Check(5, name, Outcome.PASS, "a panoramic shows them")
    periapicals = [image for image in images if image.view is View.PERIAPICAL]
    if not periapicals:
        return Check(5, name, Outcome.NOT_APPLICABLE, "no periapical or panoramic")
    reached = {tooth for image in periapicals for tooth in image.teeth}
    bare = [
        quadrant
        for quadrant in (1, 2, 3, 4)
        if not any(t.quadrant == quadrant and t.position >= 7 for t in reached)
    ]
    if bare:
        words = ", ".join(f"quadrant {quadrant}" for quadrant in bare)
        return Check(5, name, Outcome.FAIL, f"no periapical behind the first molar: {words}")
    return Check(5, name, Outcome.PASS)


def _flaws(images: Sequence[SeenImage], series: Series | None) -> Check:
    name = "no unusable image without a better one"
    replaced = {each.instance_id for each in series.retakes} if series else set()
    alone = []
    for image in images:
        if not any(flag.is_disqualifying for flag in image.flags) or image.instance_id in replaced:
            continue
        others = {t for other in images if other is not image
                  and not any(f.is_disqualifying for f in other.flags)
                  and other.view is image.view for t in other.teeth}  # fmt: skip
        if not image.teeth or not set(image.teeth) <= others:
            alone.append(next(f.detail for f in image.flags if f.is_disqualifying))
    if alone:
        return Check(6, name, Outcome.FAIL, "; ".join(dict.fromkeys(alone)))
    return Check(6, name, Outcome.PASS)


def _check(
    number: int, name: str, teeth: Sequence[Tooth], failing: Sequence[Tooth], words: str
) -> Check:
    if not teeth:
        return Check(number, name, Outcome.NOT_APPLICABLE, "no tooth was found")
    if failing:
        listed = ", ".join(f"#{tooth.universal}" for tooth in sorted(set(failing)))
        return Check(number, name, Outcome.FAIL, f"{words}: {listed}")
    return Check(number, name, Outcome.PASS)
