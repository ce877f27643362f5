"""The invented patients and the studies taken of them, read from ``cast.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path

from node.domain.findings import View
from node.domain.teeth import Tooth
from node.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SamplePatient:
    """An invented person; ``id`` is the sandbox practice's patient number as text."""

    id: str
    family: str
    given: str
    birth_date: date
    sex: str


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One film of the package: its file, view, and the teeth it is meant to show, if stated."""

    file: str
    view: View
    teeth: tuple[Tooth, ...] = ()

    @property
    def path(self) -> Path:
        """Where the file lies; raises ConfigError when the package lacks it."""
        path = Path(str(resources.files(__package__))) / self.file
        if not path.is_file():
            raise ConfigError(f"the sample film {self.file} is missing from this installation")
        return path

    def truth(self) -> dict[str, object]:
        """Read the truth beside a synthetic film; empty for a film without one."""
        path = self.path.with_suffix("").with_suffix(".truth.json")
        if not path.is_file():
            return {}
        truth: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return truth


@dataclass(frozen=True, slots=True)
class SampleStudy:
    """One study of one invented patient; ``source`` is synthetic, real or ai-generated.

    ``days_ago`` above 0 is an earlier study, taken so long before today and not on any schedule.
    """

    key: str
    patient: SamplePatient
    description: str
    modality: str
    cdt_codes: tuple[str, ...]
    source: str
    images: tuple[SampleImage, ...]
    days_ago: int = 0

    def write(
        self,
        folder: Path,
        *,
        accession: str,
        study_instance_uid: str | None,
        study_date: date,
    ) -> list[Path]:
        """Write the images as DICOM files; the same arguments write the same bytes.

        ``study_instance_uid`` None gives the study a UID of its own, made from its key.
        """
        from sample_studies.dicom import wrap

        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, image in enumerate(self.images, start=1):
            ds = wrap(
                self,
                image,
                number,
                accession=accession,
                study_instance_uid=study_instance_uid,
                study_date=study_date,
            )
            path = folder / f"{self.key}-{number:02d}.dcm"
            ds.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths


def catalog() -> tuple[SampleStudy, ...]:
    """List the sample studies in the order of ``cast.json``."""
    cast = json.loads((resources.files(__package__) / "cast.json").read_text(encoding="utf-8"))
    patients = {
        row["id"]: SamplePatient(
            row["id"],
            row["family"],
            row["given"],
            date.fromisoformat(row["birth_date"]),
            row["sex"],
        )
        for row in cast["patients"]
    }
    return tuple(
        SampleStudy(
            key=row["key"],
            patient=patients[row["patient"]],
            description=row["description"],
            modality=row["modality"],
            cdt_codes=tuple(row["cdt_codes"]),
            source=row["source"],
            images=tuple(
                SampleImage(
                    image["file"],
                    View(image["view"]),
                    tuple(Tooth(code) for code in image.get("teeth", ())),
                )
                for image in row["images"]
            ),
            days_ago=row.get("days_ago", 0),
        )
        for row in cast["studies"]
    )
