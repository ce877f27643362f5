"""The one filter: what of the models' word is shown, by rules, acknowledgements and the ceiling.

Every way out of the node asks here: the review page, the worklist, search of what is open, routing
rules, preliminary reports, exports. What a person has decided or drawn is a person's and is always
shown; what is signed is never filtered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import sqlalchemy as sa

from node.config import Config, Mode
from node.db.tables import appointment, study
from node.domain.findings import DecisionState, FindingKind, View
from node.domain.reading import StudyFacts, StudyReading, ToothState, ToothStatus
from node.domain.review import Json
from node.domain.rollout import (
    Area,
    Decision,
    Place,
    RollMode,
    Rule,
    Subject,
    Tag,
    decide,
    known_subjects,
)
from node.rollout.acknowledgements import acknowledged
from node.rollout.rules import read_rules

_SUGGESTED = DecisionState.SUGGESTED.value
_VIEWS = ("", *(view.value for view in View))
_SHOWABLE = known_subjects()
#: States of a tooth that are findings, and what is left when the kind is silent.
_STATES = {
    ToothState.IMPACTED: (FindingKind.IMPACTED_TOOTH, ToothState.PRESENT),
    ToothState.REMNANT: (FindingKind.ROOT_REMNANT, ToothState.NOT_SHOWN),
    ToothState.IMPLANT: (FindingKind.IMPLANT, ToothState.NOT_SHOWN),
}


@dataclass(frozen=True, slots=True)
class ShownRun:
    """What is shown of one image's analysis; the columns of ``analysis_run`` of the same names."""

    view: str | None
    view_probability: float | None
    side: str
    region: str
    quality: list[Json] | None
    orientation: Json | None
    has_teeth: bool
    models: list[Json]
    absent: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Showing:
    """What one location shows; :meth:`at` gives the part that holds for one study."""

    rules: tuple[Rule, ...] = ()
    acknowledged: frozenset[str] = frozenset()
    is_held: bool = False  # the configuration keeps everything silent
    _known: dict[tuple[Subject, Place], Decision] = field(default_factory=dict, compare=False)

    def decision(self, subject: Subject, place: Place) -> Decision:
        """Decide one subject at one place, with its reason."""
        key = (subject, place)
        if key not in self._known:
            self._known[key] = decide(self.rules, subject, place)
        return self._known[key]

    def is_shown(self, subject: Subject, place: Place) -> bool:
        """Whether a subject is shown at a place at all, whichever model speaks."""
        return not self.is_held and self.decision(subject, place).mode is not RollMode.SILENT

    @property
    def is_anywhere(self) -> bool:
        """Whether anything of the models is shown at any place."""
        places = {replace(rule.place, view="", lab="") for rule in self.rules} | {Place()}
        return any(self.at(place).is_any for place in places)

    def at(self, place: Place) -> StudyShowing:
        """Give the filter for a study at this place."""
        return StudyShowing(self, place)


@dataclass(frozen=True, slots=True)
class StudyShowing:
    """The filter for one study: `place` is that of its appointment, without a view."""

    showing: Showing
    place: Place

    @property
    def is_any(self) -> bool:
        """Whether anything of the models is shown of such a study."""
        return any(self._is_shown(subject, view) for subject in _SHOWABLE for view in _VIEWS)

    @property
    def is_all(self) -> bool:
        """Whether nothing is held back of such a study, whichever acknowledged model speaks."""
        return all(self._is_shown(subject, view) for subject in _SHOWABLE for view in _VIEWS)

    def mode(self, subject: Subject, view: str | None) -> RollMode:
        """Give the mode of a subject on such a view; silent where everything is held."""
        if self.showing.is_held:
            return RollMode.SILENT
        return self.showing.decision(subject, replace(self.place, view=view or "")).mode

    def is_acknowledged(self, model: Json | None) -> bool:
        """Whether the clinical lead has read what this model is."""
        name = f"{model['name']} {model['version']}" if model else ""
        return name in self.showing.acknowledged

    def shows(self, kind: str, view: str | None, model: Json | None) -> bool:
        """Whether a suggestion of this kind, made by this model on such a view, is shown."""
        is_shown = self._is_shown(Subject(Area.FINDING, kind), view or "")
        return is_shown and self.is_acknowledged(model)

    def shows_tag(self, tag: Tag, view: str | None) -> bool:
        """Whether a tag is shown on such a view."""
        return self._is_shown(Subject(Area.TAG, tag.value), view or "")

    def keeps(self, row: sa.Row, view: str | None) -> bool:  # type: ignore[type-arg]
        """Whether a row of ``finding`` is shown; SQLAlchemy's Row is generic over its columns."""
        if row.origin != "ai" or row.state != _SUGGESTED:
            return True
        return self.shows(row.kind, view, row.model)

    def why(self, kind: str, view: str | None, model: Json | None) -> str:
        """Say why a suggestion is shown or hidden."""
        if self.showing.is_held:
            return "silent: the configuration keeps everything silent ([node] mode)"
        decision = self.showing.decision(
            Subject(Area.FINDING, kind), replace(self.place, view=view or "")
        )
        name = f"{model['name']} {model['version']}" if model else "the unnamed model"
        if decision.mode is not RollMode.SILENT and name not in self.showing.acknowledged:
            return f"silent: nobody has acknowledged {name}, though a rule says {decision.words}"
        return decision.words

    def run(self, row: sa.Row) -> ShownRun:  # type: ignore[type-arg]
        """Give the parts of an analysis that are shown; SQLAlchemy's Row is generic."""

        def tag(one: Tag) -> bool:
            return self.shows_tag(one, row.view)

        is_named = tag(Tag.VIEW)
        return ShownRun(
            view=row.view if is_named else None,
            view_probability=row.view_probability if is_named else None,
            side=row.side if is_named else "",
            region=row.region if is_named else "",
            quality=row.quality if tag(Tag.QUALITY) else None,
            orientation=row.orientation if tag(Tag.ORIENTATION) else None,
            has_teeth=tag(Tag.TEETH),
            models=row.models,
            absent=tuple(row.absent),
            notes=tuple(row.notes),
        )

    def brief(self, view: str | None, models: list[Json]) -> ShownRun:
        """Give only the view of an analysis, if it is shown, and which networks ran."""
        shown = view if self.shows_tag(Tag.VIEW, view) else None
        return ShownRun(shown, None, "", "", None, None, False, models, (), ())

    def masked(self, reading: StudyReading, runs: Mapping[str, Json]) -> StudyReading:
        """Leave out of a reading what is silent; `runs` are the images' ``models`` by image id.

        Its conclusions are left as they are: they are composed again from the facts.
        """
        return replace(reading, facts=self._facts(reading.facts, runs))

    def _facts(self, facts: StudyFacts, runs: Mapping[str, Json]) -> StudyFacts:
        views = {
            image.instance_id: image.view.value if image.view else None for image in facts.images
        }
        bone = FindingKind.BONE_LEVEL

        def shows(kind: FindingKind, image_id: str) -> bool:
            models = cast("Iterable[Json]", runs.get(image_id) or ())
            return any(self.shows(kind.value, views.get(image_id), model) for model in models)

        def tags(tag: Tag, image_id: str) -> bool:
            return self.shows_tag(tag, views.get(image_id))

        changes = tuple(c for c in facts.changes if shows(c.kind, c.instance_id))
        compared = {change.registration for change in changes}
        return replace(
            facts,
            images=tuple(
                replace(
                    image,
                    view=image.view if tags(Tag.VIEW, image.instance_id) else None,
                    side=image.side if tags(Tag.VIEW, image.instance_id) else "",
                    region=image.region if tags(Tag.VIEW, image.instance_id) else "",
                    teeth=image.teeth if tags(Tag.TEETH, image.instance_id) else (),
                    closed=image.closed if tags(Tag.QUALITY, image.instance_id) else (),
                    flaws=image.flaws if tags(Tag.QUALITY, image.instance_id) else (),
                )
                for image in facts.images
            ),
            teeth=self._teeth(facts, shows) if self.shows_tag(Tag.TEETH, None) else (),
            missing_basis=facts.missing_basis if self.shows_tag(Tag.TEETH, None) else "",
            sites=tuple(site for site in facts.sites if shows(bone, site.instance_id)),
            renumberings=tuple(r for r in facts.renumberings if tags(Tag.TEETH, r.instance_id)),
            series=facts.series if self.shows_tag(Tag.SERIES, None) else None,
            checks=facts.checks if self.shows_tag(Tag.COMPLETENESS, None) else (),
            procedures=facts.procedures if self.shows_tag(Tag.COMPLETENESS, None) else (),
            crown_root=tuple(c for c in facts.crown_root if shows(bone, c.instance_id)),
            registrations=tuple(
                each
                if number in compared
                else replace(each, correlation=0.0, is_usable=False, reason="not shown")
                for number, each in enumerate(facts.registrations)
            )
            if changes
            else (),
            changes=changes,
        )

    def _teeth(self, facts: StudyFacts, shows: object) -> tuple[ToothStatus, ...]:
        assert callable(shows)
        found = []
        for each in facts.teeth:
            if each.state in _STATES:
                kind, rest = _STATES[each.state]
                if not any(shows(kind, image_id) for image_id in each.images):
                    found.append(replace(each, state=rest))
                    continue
            found.append(each)
        return tuple(found)

    def _is_shown(self, subject: Subject, view: str) -> bool:
        return self.showing.is_shown(subject, replace(self.place, view=view))


def read_showing(conn: sa.Connection, config: Config) -> Showing:
    """Read what this location shows now."""
    location_id = config.node.location_id
    return Showing(
        read_rules(conn, location_id),
        acknowledged(conn, location_id),
        config.node.mode is Mode.SILENT,
    )


def place_of(conn: sa.Connection, study_id: str) -> Place:
    """Find where a study belongs by its appointment; nowhere in particular without one."""
    return places_of(conn, [study_id])[study_id]


def places_of(conn: sa.Connection, study_ids: Iterable[str]) -> dict[str, Place]:
    """Find where studies belong."""
    ids = list(study_ids)
    found = dict.fromkeys(ids, Place())
    rows = conn.execute(
        sa.select(study.c.id, appointment.c.operatory_key, appointment.c.provider_key)
        .join(appointment, appointment.c.id == study.c.appointment_id)
        .where(study.c.id.in_(ids))
    )
    for row in rows:
        found[row.id] = Place(operatory=row.operatory_key, provider=row.provider_key)
    return found


def study_showing(conn: sa.Connection, config: Config, study_id: str) -> StudyShowing:
    """Read the filter of one study."""
    return read_showing(conn, config).at(place_of(conn, study_id))
