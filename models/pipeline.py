"""One radiograph through every installed network: view, teeth, findings.

Which finding a view may report follows the findings-by-views matrix (:data:`REPORTABLE`). What is
not installed is named in ``ImageAnalysis.absent``; silence never means "nothing found".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models import quality, region, registry, weights
from models.intraoral_reading import IntraoralReading
from models.orientation import Turned
from models.registry import Choice, Role
from node.domain.findings import (
    NO_SPACING,
    Finding,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    OperatingPoint,
    Orientation,
    QualityFlag,
    QualityKind,
    Spacing,
    ToothMark,
    View,
)
from node.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from models.intraoral import IntraoralModel
    from models.panoramic import PanoramicTeeth
    from models.panoramic_findings import PanoramicFindings
    from models.runtime import Options
    from models.triage import Look, Triage

_K = FindingKind

#: What each view may show at all; anything else a network says is dropped.
#: Source: models/cards/README.md, "Findings by view".
REPORTABLE: dict[View, frozenset[FindingKind]] = {
    View.BITEWING: frozenset(
        {_K.CARIES, _K.RECURRENT_CARIES, _K.DEFECTIVE_MARGIN, _K.RESTORATION, _K.CROWN, _K.IMPLANT}
        | {_K.BONE_LEVEL, _K.ANGULAR_DEFECT, _K.FURCATION, _K.CALCULUS, _K.ROOT_FILLING, _K.POST}
        | {_K.ROOT_REMNANT}
    ),
    View.PERIAPICAL: frozenset(
        {_K.CARIES, _K.RECURRENT_CARIES, _K.DEFECTIVE_MARGIN, _K.RESTORATION, _K.CROWN, _K.IMPLANT}
        | {_K.BONE_LEVEL, _K.ANGULAR_DEFECT, _K.FURCATION, _K.CALCULUS, _K.ROOT_FILLING, _K.POST}
        | {_K.ROOT_REMNANT, _K.PERIAPICAL_RADIOLUCENCY, _K.IMPACTED_TOOTH}
    ),
    View.PANORAMIC: frozenset(
        {_K.CARIES, _K.RESTORATION, _K.CROWN, _K.IMPLANT, _K.ROOT_FILLING, _K.POST}
        | {_K.IMPACTED_TOOTH, _K.PERIAPICAL_RADIOLUCENCY, _K.ROOT_REMNANT}
    ),
    View.OCCLUSAL: frozenset(),
    View.CEPHALOMETRIC: frozenset(),
    View.PHOTO: frozenset(),
    View.OTHER: frozenset(),
}

PANORAMIC_CARIES_NOTE = (
    "Panoramic caries marks show gross lesions only, without depth, and are not a ground for "
    "procedure codes or pre-authorisation; confirm on a bitewing or clinically."
)
UNKNOWN_VIEW_NOTE = (
    "The view type is unknown because its network is not installed, so no finding network was run."
)
UNSURE_VIEW_NOTE = "The view type could not be told with confidence, so no finding network was run."
OTHER_VIEW_NOTE = (
    "This does not look like a bitewing, periapical or panoramic radiograph, so no finding "
    "network was run."
)
UNSURE_LIE_NOTE = (
    "The image seems to be stored on its side or upside down, and it could not be told how, so no "
    "finding network was run. Turn it in the imaging software and send it again."
)
CHILD_NOTE = (
    "The patient was younger than 12: primary and mixed dentition are out of scope, so no finding "
    "network was run."
)
#: Below this age no finding network is run: permanent teeth only were learnt.
LEAST_AGE_YEARS = 12.0
_MIN_SIDE_PX = 32


@dataclass(frozen=True, slots=True)
class Film:
    """One image to analyse, with what its sender says; see :meth:`Pipeline.analyse`."""

    pixels: np.ndarray
    spacing: Spacing
    age_years: float | None = None
    stated_side: str = ""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The installed networks, ready to run; None stands for a task without weights."""

    triage: Triage | None = None
    panoramic_teeth: PanoramicTeeth | None = None
    panoramic_findings: PanoramicFindings | None = None
    intraoral: IntraoralModel | None = None
    versions: tuple[ModelVersion, ...] = ()

    @classmethod
    def load(
        cls,
        weights_dir: Path | None = None,
        disabled: Sequence[str] = (),
        threads: int = 2,
        chosen: Sequence[Choice] = (),
        options: Options | None = None,
    ) -> Pipeline:
        """Load every live network: those of `weights_dir` that are not `disabled`, and `chosen`.

        `weights_dir` None is the folder shipped with the program. `threads` bounds PyTorch's CPU
        threads in this process. `options` say with what to run, by default with PyTorch. Raises
        ConfigError for weights that are not what they claim.
        """
        live = [
            choice
            for choice in registry.choices(chosen, weights_dir, disabled)
            if choice.role is Role.LIVE
        ]
        if not live:
            return cls()
        import torch

        torch.set_num_threads(max(1, threads))
        pipeline = cls()
        for choice in live:
            pipeline = pipeline.with_network(choice, options)
        return pipeline

    def with_network(self, choice: Choice, options: Options | None = None) -> Pipeline:
        """Put the network of `choice` in the place of the one for its task."""
        from models import runtime

        loaded = choice.load()
        how = options or runtime.Options(runtime="torch")
        others = [version for version in self.versions if version.name != choice.task]
        order = sorted([*others, loaded.version], key=lambda v: weights.TASKS.index(v.name))
        pipeline = replace(self, versions=tuple(order))
        match choice.task:
            case "triage":
                from models.triage import Triage

                triage = runtime.prepare(Triage.from_state(*loaded), how)
                return replace(pipeline, triage=triage)
            case "panoramic_teeth":
                from models.panoramic import PanoramicTeeth

                teeth = runtime.prepare(PanoramicTeeth.from_state(*loaded), how)
                return replace(pipeline, panoramic_teeth=teeth)
            case "panoramic_caries":
                from models.panoramic_findings import PanoramicFindings

                findings = runtime.prepare(PanoramicFindings.from_state(*loaded), how)
                return replace(pipeline, panoramic_findings=findings)
            case "intraoral":
                from models.intraoral import IntraoralModel

                intraoral = runtime.prepare(IntraoralModel.from_state(*loaded), how)
                return replace(pipeline, intraoral=intraoral)
            case _:
                raise ConfigError(f"no network runs the task {choice.task}")

    def version_of(self, task: str) -> ModelVersion | None:
        """Name the network that is loaded for `task`; None when there is none."""
        return next((version for version in self.versions if version.name == task), None)

    def warm_up(self) -> None:
        """Run every network once on noise, so that the first patient does not wait for it."""
        noise = np.random.default_rng(0)
        if self.triage:
            self.triage.look(noise.random((64, 96), np.float32))
        if self.panoramic_teeth:
            self.panoramic_teeth.warm_up()
        if self.panoramic_findings:
            self.panoramic_findings.warm_up()
        if self.intraoral:
            for shape in ((384, 512), (512, 384)):
                film = noise.random(shape, np.float32)
                self.intraoral.analyse(film, View.BITEWING, NO_SPACING)

    def analyse_all(self, films: Sequence[Film]) -> list[ImageAnalysis | Exception]:
        """Analyse several images together, each network run on as many at once as it can.

        An image that cannot be analysed gives its exception in its place.
        """
        from models.runtime_batching import together

        def analyse(film: Film) -> ImageAnalysis:
            return self.analyse(film.pixels, film.spacing, film.age_years, film.stated_side)

        return together(analyse, films)

    @property
    def absent(self) -> tuple[str, ...]:
        """The tasks without weights, in the order of :data:`models.weights.TASKS`."""
        present = {version.name for version in self.versions}
        return tuple(task for task in weights.TASKS if task not in present)

    def analyse(
        self,
        image: np.ndarray,
        spacing: Spacing,
        age_years: float | None = None,
        stated_side: str = "",
    ) -> ImageAnalysis:
        """Say what the networks see on `image`, (rows, cols) float 0..1 with metal bright.

        `age_years` is the patient's age at the study, None when unknown; `stated_side` the side
        of the mouth that the sender gave (R, L or empty). An image that is stored turned or as a
        negative is read from an upright copy; all coordinates are those of `image`.

        Raises InvalidInput for anything that is not such an image.
        """
        _check(image)
        pixels = np.ascontiguousarray(image, dtype=np.float32)
        if self.triage is None:
            return ImageAnalysis(None, None, absent=self.absent, notes=(UNKNOWN_VIEW_NOTE,))
        look = self.triage.look(pixels)
        analysis = ImageAnalysis(
            look.view,
            look.probability,
            models=(self.triage.version,),
            absent=self.absent,
            orientation=look.orientation,
        )
        if refused := _refusal(look, age_years):
            note, flags = refused
            return replace(analysis, notes=(note,), quality=flags)
        if look.orientation.is_usual:
            return self._read(pixels, spacing, look, stated_side, analysis)
        turned = Turned(look.orientation, *pixels.shape)
        read = self._read(
            turned.upright(pixels), turned.spacing(spacing), look, stated_side, analysis
        )
        return replace(
            read,
            teeth=tuple(turned.tooth(mark) for mark in read.teeth),
            findings=tuple(turned.finding(finding) for finding in read.findings),
            sites=tuple(turned.site(site) for site in read.sites),
            notes=(_lie_note(look.orientation), *read.notes),
        )

    def _read(
        self,
        pixels: np.ndarray,
        spacing: Spacing,
        look: Look,
        stated_side: str,
        analysis: ImageAnalysis,
    ) -> ImageAnalysis:
        """Read upright, positive pixels of a view that has networks."""
        match look.view:
            case View.PANORAMIC:
                return self._panoramic(pixels, analysis)
            case View.BITEWING | View.PERIAPICAL:
                read = self._intraoral(pixels, look.view, spacing, look.faults, analysis)
                seen = region.of_teeth(look.view, read.teeth, pixels.shape[1])
                flags = region.wrong_side(stated_side, seen.side, look.side)
                return replace(
                    read,
                    side=seen.side if read.teeth else look.side,
                    region=seen.words if read.teeth else look.region,
                    quality=read.quality + flags,
                )
            case _:
                return analysis

    def _panoramic(self, pixels: np.ndarray, analysis: ImageAnalysis) -> ImageAnalysis:
        teeth: tuple[ToothMark, ...] = ()
        findings: tuple[Finding, ...] = ()
        models, notes = analysis.models, analysis.notes
        if self.panoramic_teeth:
            teeth = self.panoramic_teeth.find(pixels)
            models += (self.panoramic_teeth.version,)
        if self.panoramic_findings:
            points = self.panoramic_findings.settings.operating_points
            found = self.panoramic_findings.find(pixels, teeth)
            findings = _reportable(View.PANORAMIC, found, points)
            models += (self.panoramic_findings.version,)
            notes += (PANORAMIC_CARIES_NOTE,)
            analysis = replace(analysis, operating_points=_points(View.PANORAMIC, points))
        return replace(
            analysis,
            teeth=teeth,
            findings=findings,
            models=models,
            notes=notes,
            quality=quality.of_panoramic(pixels, teeth, findings),
        )

    def _intraoral(
        self,
        pixels: np.ndarray,
        view: View,
        spacing: Spacing,
        faults: Mapping[str, float],
        analysis: ImageAnalysis,
    ) -> ImageAnalysis:
        if self.intraoral is None:
            seen = quality.of_intraoral(pixels, view, IntraoralReading(), spacing, faults)
            return replace(analysis, quality=seen)
        reading = self.intraoral.analyse(pixels, view, spacing)
        points = self.intraoral.settings.operating_points
        return replace(
            analysis,
            teeth=reading.teeth,
            findings=_reportable(view, reading.findings, points),
            sites=reading.sites,
            quality=quality.of_intraoral(pixels, view, reading, spacing, faults),
            models=(*analysis.models, self.intraoral.version),
            operating_points=_points(view, points),
        )


def _refusal(look: Look, age_years: float | None) -> tuple[str, tuple[QualityFlag, ...]] | None:
    """Say why no finding network may read the image, with a flag; None when they may."""
    if look.view is None:
        return UNSURE_VIEW_NOTE, ()
    if not REPORTABLE[look.view]:
        flag = QualityFlag(QualityKind.OUT_OF_SCOPE, OTHER_VIEW_NOTE, look.probability)
        return OTHER_VIEW_NOTE, (flag,) if look.view is View.OTHER else ()
    if age_years is not None and age_years < LEAST_AGE_YEARS:
        flag = QualityFlag(QualityKind.OUT_OF_SCOPE, CHILD_NOTE)
        return CHILD_NOTE, (flag,)
    if not look.is_lie_sure:
        flag = QualityFlag(QualityKind.TILTED, UNSURE_LIE_NOTE, is_disqualifying=True)
        return UNSURE_LIE_NOTE, (flag,)
    return None


def _lie_note(orientation: Orientation) -> str:
    """Say how the stored image lies and what was done about it."""
    turns = ("", "turned left by 90°", "upside down", "turned right by 90°")
    how = [turns[orientation.quarter_turns], "as a negative" if orientation.is_inverted else ""]
    return (
        f"The image is stored {' and '.join(word for word in how if word)}; the networks read an "
        "upright, positive copy. All marks are on the image as stored; nothing was changed."
    )


def _reportable(
    view: View, findings: Sequence[Finding], points: Mapping[FindingKind, OperatingPoint]
) -> tuple[Finding, ...]:
    """Keep what the view may show, from its review point upwards."""
    return tuple(
        finding
        for finding in findings
        if finding.kind in REPORTABLE[view]
        and (
            finding.kind not in points or (finding.probability or 0) >= points[finding.kind].review
        )
    )


def _points(
    view: View, points: Mapping[FindingKind, OperatingPoint]
) -> dict[FindingKind, OperatingPoint]:
    return {kind: point for kind, point in points.items() if kind in REPORTABLE[view]}


def _check(image: np.ndarray) -> None:
    if image.ndim != 2 or min(image.shape) < _MIN_SIDE_PX:
        raise InvalidInput(f"an image has two dimensions of at least {_MIN_SIDE_PX} pixels")
    if not np.issubdtype(image.dtype, np.floating) or not np.isfinite(image).all():
        raise InvalidInput("pixel values must be finite floating point numbers")
    if image.min() < -1e-3 or image.max() > 1.001:
        raise InvalidInput("pixel values must lie between 0 and 1")
