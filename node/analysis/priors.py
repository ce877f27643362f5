"""The same teeth on earlier films of the same patient: which are compared, and what is said of it.

Only studies whose patient is certain, of an earlier day. Each tooth is compared with the latest
earlier film of the same view that shows it. What the earlier study's dentist signed counts there;
an unsigned study only has the models' word, and it is said so. On panoramics only what is marked
on whole teeth is compared (:mod:`node.analysis.panoramic_change`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from models.bone_change import (
    Affine,
    Alignment,
    LevelChange,
    ToothOnFilm,
    changed_strip,
    level_change,
    tooth_axis,
)
from node.analysis.comparing import Area, Comparison, FilmTeeth
from node.analysis.inference import InferenceDied
from node.analysis.panoramic_change import ToothThen, tooth_changes
from node.analysis.study_rows import ImageRead, StudyRows, read_study
from node.db.tables import study
from node.dicom.object_file import ObjectFile
from node.domain.findings import (
    BoneSite,
    CariesDepth,
    Finding,
    FindingKind,
    Line,
    Point,
    QualityKind,
    View,
)
from node.domain.reading import Change, Registration, Verdict
from node.domain.study import MatchState, StudyState
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError, InvalidInput, Rejected

#: An area must have darkened by this many robust spreads to count as new, deeper or lost; a level
#: that rose must have got lighter by as much. Chosen on phantom pairs: docs/benchmarks.md.
LEAST_DARKENING = 2.0
_COMPARED = (View.BITEWING, View.PERIAPICAL, View.PANORAMIC)
_MOST_PRIORS = 6
_CERTAIN = [state.value for state in MatchState if state.is_certain]
_DEPTHS = tuple(CariesDepth)
_SIDES = {Surface.MESIAL: "mesial", Surface.DISTAL: "distal"}

Compare = Callable[[FilmTeeth, FilmTeeth, Sequence[Area]], Comparison]


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier film and the study it belongs to."""

    study: StudyRows
    image: ImageRead

    @property
    def is_signed(self) -> bool:
        """Whether a dentist signed what is known of it."""
        return self.study.signed is not None

    @property
    def day(self) -> str:
        """The earlier study's day, ISO."""
        return self.study.day.isoformat()

    def findings(self) -> tuple[Finding, ...]:
        """Give what counts there: the signed findings, else those not rejected."""
        signed = self.study.signed
        if signed is not None:
            return tuple(f.finding for f in signed.findings if f.instance_id == self.image.id)
        return tuple(each.finding for each in self.image.findings)

    def site(self, tooth: Tooth, surface: Surface) -> tuple[BoneSite, str] | None:
        """Give the bone level of a site, as signed if it is, and whose word that is."""
        measured = next(
            (s for s in self.image.sites if (s.tooth, s.surface) == (tooth, surface)), None
        )
        for mark in self.findings():
            is_here = mark.tooth == tooth and mark.surfaces == (surface,)
            if mark.kind is not FindingKind.BONE_LEVEL or not is_here:
                continue
            if isinstance(mark.geometry, Line):
                cej, crest = mark.geometry.points
                apex = measured.apex if measured else None
                level = BoneSite(tooth, surface, cej, crest, apex, mark.value_mm,
                                 mark.value_percent, 1.0)  # fmt: skip
                return level, "signed" if self.is_signed else "ai"
        return (measured, "ai") if measured else None


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that the comparison with earlier studies gives."""

    registrations: tuple[Registration, ...] = ()
    changes: tuple[Change, ...] = ()


def earlier_studies(conn: sa.Connection, location_id: str, now: StudyRows) -> list[StudyRows]:
    """Read the patient's finished studies of earlier days, latest first; none in doubt."""
    if now.patient_id is None:
        return []
    ids = conn.execute(
        sa.select(study.c.id)
        .where(
            study.c.location_id == location_id,
            study.c.patient_id == now.patient_id,
            study.c.id != now.id,
            study.c.match_state.in_(_CERTAIN),
            study.c.state.in_([StudyState.READY.value, StudyState.SIGNED.value]),
        )
        .order_by(study.c.study_date.desc(), study.c.received_at.desc())
    ).scalars()
    found = []
    for study_id in ids:
        earlier = read_study(conn, location_id, study_id)
        if earlier is not None and earlier.day < now.day:
            found.append(_as_stored(earlier))
        if len(found) == _MOST_PRIORS:
            break
    return sorted(found, key=lambda each: each.day, reverse=True)


def compare_with(
    images: Sequence[ImageRead],
    priors: Sequence[StudyRows],
    compare: Compare,
    file_of: Callable[[str], ObjectFile],
) -> Compared:
    """Compare each tooth with its latest earlier film, pair of films by pair of films.

    `compare` lays films over each other; a pair that it fails on is not comparable. Raises
    Retryable when the node is stopping.
    """
    registrations: list[Registration] = []
    changes: list[Change] = []
    for image in images:
        for prior, teeth in _pairs(image, priors):
            marks = [
                each.finding
                for each in image.findings
                if each.finding.kind.is_caries
                and each.finding.tooth in teeth
                and image.view is not View.PANORAMIC
            ]
            strips = _strips(image, prior, teeth)
            answer = _asked(
                compare,
                FilmTeeth(file_of(image.storage_key), _on_film(image, teeth)),
                FilmTeeth(file_of(prior.image.storage_key), _on_film(prior.image, teeth)),
                [Area(m.tooth, _outline(m)) for m in marks if m.tooth is not None]
                + [Area(tooth, outline) for (tooth, _), outline in strips.items()],
            )
            darker = dict(zip(map(id, marks), answer.darkening, strict=False))
            moved = dict(zip(strips, answer.darkening[len(marks) :], strict=True))
            for alignment in answer.alignments:
                place = len(registrations)
                registrations.append(_registration(alignment, image, prior))
                pair = _Pair(image, prior, alignment, place)
                if image.view is View.PANORAMIC:
                    changes += pair.whole_tooth()
                    continue
                changes += pair.bone(moved)
                of_tooth = [m for m in marks if m.tooth == alignment.tooth]
                changes += pair.caries([(mark, darker[id(mark)]) for mark in of_tooth])
    return Compared(tuple(registrations), tuple(changes))


def _strips(
    image: ImageRead, prior: Prior, teeth: frozenset[Tooth]
) -> dict[tuple[Tooth, Surface], tuple[Point, ...]]:
    """Outline where bone would have gone, for each site whose levels differ."""
    found = {}
    for now in image.sites:
        before = prior.site(now.tooth, now.surface) if now.tooth in teeth else None
        if before is not None:
            film = _one_on_film(image, now.tooth)
            outline = changed_strip(film, now, before[0], image.spacing)
            if outline:
                found[(now.tooth, now.surface)] = outline
    return found


def _asked(
    compare: Compare, now: FilmTeeth, before: FilmTeeth, areas: Sequence[Area]
) -> Comparison:
    """Ask the inference process, twice if it dies; what it fails on is not comparable."""
    reason = "the earlier film is with the archive at this moment"
    for _ in range(2 if before.path.is_file() else 0):
        try:
            return compare(now, before, areas)
        except InferenceDied:
            reason = "the comparison ended the inference process"
        except (InvalidInput, Rejected, ConfigError) as error:
            reason = str(error)
            break
    still: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    shown = [each.tooth for each in now.teeth]
    failed = tuple(Alignment(tooth, still, 0.0, None, False, reason) for tooth in shown)
    return Comparison(failed, (None,) * len(areas))


@dataclass(frozen=True, slots=True)
class _Pair:
    """One tooth on a film now and before."""

    image: ImageRead
    prior: Prior
    alignment: Alignment
    place: int

    def bone(self, darker: Mapping[tuple[Tooth, Surface], float | None]) -> Iterator[Change]:
        """Compare the bone level at both sides; `darker` says what the films show there."""
        tooth = self.alignment.tooth
        now_film = _one_on_film(self.image, tooth)
        for surface in (Surface.MESIAL, Surface.DISTAL):
            now = next(
                (s for s in self.image.sites if (s.tooth, s.surface) == (tooth, surface)), None
            )
            before = self.prior.site(tooth, surface)
            if now is None or before is None:
                continue
            site, source = before
            name = f"#{tooth.universal} {_SIDES[surface]}: bone level"
            change = replace(
                self._change(FindingKind.BONE_LEVEL, surface, source),
                before_mm=site.level_mm,
                now_mm=now.level_mm,
            )
            if not self.alignment.is_usable:
                words = f"{name} not comparable: {self.alignment.reason}"
                yield replace(change, words=words)
                continue
            axis = tooth_axis(now_film, surface)
            found = level_change(now, site, self.alignment, self.image.spacing, axis)
            if isinstance(found, str):
                yield replace(change, words=f"{name} not comparable: {found}")
            else:
                verdict, words = _bone_words(name, site, now, found, darker.get((tooth, surface)))
                yield replace(
                    change,
                    verdict=verdict,
                    words=words,
                    delta_mm=round(found.delta_mm, 2),
                    uncertainty_mm=round(found.uncertainty_mm, 2),
                    smallest_mm=round(found.smallest_mm, 2),
                )

    def caries(self, marks: Sequence[tuple[Finding, float | None]]) -> Iterator[Change]:
        """Compare caries surface by surface: those marked now, and those marked before only."""
        tooth = self.alignment.tooth
        earlier = [m for m in self.prior.findings() if m.kind.is_caries and m.tooth == tooth]
        source = "signed" if self.prior.is_signed else "ai"
        for mark, darker in marks:
            for surface in mark.surfaces[:1]:
                known = next((m for m in earlier if surface in m.surfaces), None)
                yield self._caries_change(surface, source, mark, known, darker)
        for mark in earlier:
            for surface in mark.surfaces[:1]:
                if not any(surface in each.surfaces for each, _ in marks):
                    yield self._gone(surface, source, mark)

    def whole_tooth(self) -> Iterator[Change]:
        """Compare what panoramics mark on the tooth."""
        alignment = self.alignment
        reason = "" if alignment.is_usable else alignment.reason
        now = [each.finding for each in self.image.findings]
        then = ToothThen(self.prior.findings(), self.prior.image.points)
        common = self._change(FindingKind.CARIES, None, "signed" if self.prior.is_signed else "ai")
        return tooth_changes(alignment.tooth, now, then, reason, common)

    def _caries_change(
        self,
        surface: Surface,
        source: str,
        mark: Finding,
        known: Finding | None,
        darker: float | None,
    ) -> Change:
        change = replace(
            self._change(FindingKind.CARIES, surface, source),
            now_depth=mark.depth,
            now_probability=mark.probability,
            before_depth=known.depth if known else None,
            before_probability=known.probability if known else None,
        )
        name = self._surface_name(surface)
        reason = self._unreadable()
        if reason or darker is None:
            return replace(change, words=f"{name} not comparable: {reason or 'no measure'}")
        is_darker = darker >= LEAST_DARKENING
        if known is None:
            if is_darker:
                words = f"{name}: marked now, not before; the film is darker there"
                return replace(change, verdict=Verdict.NEW, words=words)
            words = f"{name}: marked now, not before, but the films do not differ there"
            return replace(change, verdict=Verdict.NO_MEASURABLE_CHANGE, words=words)
        steps = _steps(mark.depth, known.depth)
        if steps > 0 and is_darker:
            assert known.depth is not None
            assert mark.depth is not None
            words = f"{name}: {known.depth.value} before, {mark.depth.value} now; darker there"
            return replace(change, verdict=Verdict.DEEPER, words=words)
        words = f"{name}: marked before and now, no measurable change"
        return replace(change, verdict=Verdict.NO_MEASURABLE_CHANGE, words=words)

    def _gone(self, surface: Surface, source: str, mark: Finding) -> Change:
        change = replace(
            self._change(FindingKind.CARIES, surface, source),
            before_depth=mark.depth,
            before_probability=mark.probability,
        )
        name = self._surface_name(surface)
        reason = self._unreadable()
        if reason:
            return replace(change, words=f"{name} not comparable: {reason}")
        is_restored = any(
            each.finding.tooth == self.alignment.tooth
            and each.finding.kind in (FindingKind.RESTORATION, FindingKind.CROWN)
            for each in self.image.findings
        )
        words = f"{name}: marked before, no mark now" + (
            "; the tooth carries a restoration" if is_restored else "; look at both films"
        )
        return replace(change, verdict=Verdict.NOT_SEEN_NOW, words=words)

    def _surface_name(self, surface: Surface) -> str:
        name = _SIDES.get(surface, surface.name.lower())
        return f"#{self.alignment.tooth.universal} {name}: caries"

    def _unreadable(self) -> str:
        """Say why the surfaces of this tooth cannot be compared; empty when they can."""
        if not self.alignment.is_usable:
            return self.alignment.reason
        for image, when in ((self.image, "now"), (self.prior.image, "before")):
            for flag in image.flags:
                is_here = flag.kind is QualityKind.OVERLAP and self.alignment.tooth in flag.teeth
                if is_here or flag.is_disqualifying:
                    return f"not readable {when} ({flag.detail})"
        return ""

    def _change(self, kind: FindingKind, surface: Surface | None, source: str) -> Change:
        return Change(
            kind,
            self.alignment.tooth,
            surface,
            Verdict.NOT_COMPARABLE,
            "",
            self.image.id,
            self.prior.image.id,
            self.prior.day,
            source,
            self.place,
        )


def _pairs(
    image: ImageRead, priors: Sequence[StudyRows]
) -> Iterator[tuple[Prior, frozenset[Tooth]]]:
    """Give for each tooth of an image its latest earlier film; of two, the one that shares most."""
    if image.view not in _COMPARED:
        return
    left = {each.tooth for each in image.teeth}
    for earlier in priors:
        same = [each for each in earlier.images if each.view is image.view]
        shares = [(left & {t.tooth for t in each.teeth}, each) for each in same]
        for _, film in sorted(shares, key=lambda pair: -len(pair[0])):
            shared = left & {t.tooth for t in film.teeth}
            if shared:
                left -= shared
                yield Prior(earlier, film), frozenset(shared)


def _as_stored(rows: StudyRows) -> StudyRows:
    """Give a study's images under the numbers that hold in the database."""
    return replace(
        rows,
        images=tuple(
            image.renumbered({each.original: each.tooth for each in image.teeth})
            for image in rows.images
        ),
    )


def _on_film(image: ImageRead, teeth: frozenset[Tooth]) -> tuple[ToothOnFilm, ...]:
    numbers = sorted(teeth & {each.tooth for each in image.teeth})
    return tuple(_one_on_film(image, tooth) for tooth in numbers)


def _one_on_film(image: ImageRead, tooth: Tooth) -> ToothOnFilm:
    mark = next(each for each in image.teeth if each.tooth == tooth)
    sites = [site for site in image.sites if site.tooth == tooth]
    return ToothOnFilm(
        tooth,
        mark.box,
        {site.surface: site.cej for site in sites},
        {site.surface: site.apex for site in sites if site.apex is not None},
    )


def _outline(mark: Finding) -> tuple[Point, ...]:
    points = mark.geometry.points
    if len(points) != 2:
        return points
    (x0, y0), (x1, y1) = points
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def _registration(alignment: Alignment, image: ImageRead, prior: Prior) -> Registration:
    # A panoramic's millimetres are nominal.
    residual_mm = None if image.view is View.PANORAMIC else alignment.residual_mm
    return Registration(
        alignment.tooth,
        image.id,
        prior.image.id,
        alignment.transform,
        alignment.correlation,
        residual_mm,
        alignment.is_usable,
        alignment.reason,
    )


def _bone_words(
    name: str, before: BoneSite, now: BoneSite, found: LevelChange, darker: float | None
) -> tuple[Verdict, str]:
    """Say what became of a level; a change must be measured and be seen in the films' greys."""
    levels = f"{before.level_mm:.1f} mm before, {now.level_mm:.1f} mm now"
    if not found.is_measurable:
        words = f"{name} {levels}: no measurable change (less than {found.smallest_mm:.1f} mm)"
        return Verdict.NO_MEASURABLE_CHANGE, words
    seen = (darker or 0.0) * (1 if found.delta_mm > 0 else -1)
    if seen < LEAST_DARKENING:
        words = f"{name} {levels}, but the films do not differ there; look at both"
        return Verdict.NO_MEASURABLE_CHANGE, words
    size = f"{abs(found.delta_mm):.1f} ± {found.uncertainty_mm:.1f} mm"
    if found.delta_mm > 0:
        return Verdict.MORE_LOSS, f"{name} {levels}: {size} more loss"
    return Verdict.LESS_LOSS, f"{name} {levels}: {size} less loss"


def _steps(now: CariesDepth | None, before: CariesDepth | None) -> int:
    if now is None or before is None:
        return 0
    return _DEPTHS.index(now) - _DEPTHS.index(before)
