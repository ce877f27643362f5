"""What an analysis says of an image goes through the pipe and the database unchanged."""

import json

import pytest

from node.analysis.worker import analysis_from_json, analysis_to_json
from node.domain.findings import (
    BoneSite,
    Box,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    OperatingPoint,
    Orientation,
    QualityFlag,
    QualityKind,
    ToothMark,
    View,
)
from node.domain.image_json import orientation_from_json, points_from_json
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput

MODEL = ModelVersion("intraoral", "2.0.0", "ab" * 32)
EVERYTHING = ImageAnalysis(
    View.BITEWING,
    0.97,
    teeth=(
        ToothMark(
            Tooth("26"), Box(1, 2, 30, 40), 0.9, MODEL, ((1.0, 2.0), (30.0, 2.0), (15.0, 40.0))
        ),
    ),
    models=(MODEL,),
    absent=("panoramic_teeth",),
    notes=("a note",),
    side="L",
    region="upper left molar",
    orientation=Orientation(quarter_turns=1, is_mirrored=True, is_inverted=True),
    quality=(
        QualityFlag(QualityKind.OVERLAP, "26/27 overlap", 0.8, (Tooth("26"), Tooth("27")), True),
        QualityFlag(QualityKind.TILTED, "tilted by 14 degrees"),
    ),
    sites=(
        BoneSite(Tooth("26"), Surface.MESIAL, (1, 2), (1.5, 9.25), (2, 30), 1.4, 0.0, 0.7),
        BoneSite(Tooth("26"), Surface.DISTAL, (1, 2), (1, 9), None, None, None, 0.6),
    ),
    operating_points={FindingKind.CARIES: OperatingPoint(0.2, 0.7)},
)


def test_the_pipe_changes_nothing() -> None:
    line = json.dumps(analysis_to_json(EVERYTHING))
    assert analysis_from_json(json.loads(line)) == EVERYTHING


def test_rows_of_an_older_release_read_as_usual() -> None:
    assert orientation_from_json(None).is_usual
    assert points_from_json(None) == {}


@pytest.mark.parametrize("points", [(0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_operating_points_are_in_order(points: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="operating points"):
        OperatingPoint(*points)
