"""What is wrong with an image reaches the page, worst first, with a hint where a retake is due."""

from datetime import UTC, datetime

from node.analysis.findings import store_analysis
from node.domain.findings import (
    ImageAnalysis,
    ModelVersion,
    Orientation,
    QualityFlag,
    QualityKind,
    View,
)
from node.domain.teeth import Tooth

MODEL = ModelVersion("triage", "2.0.0", "d" * 64)


def shown(practice, user="dentist", **said):
    study_id = practice.add_study(1)
    (image_id,) = practice.image_ids(study_id)
    analysis = ImageAnalysis(View.PERIAPICAL, 0.9, models=(MODEL,), **said)
    store_analysis(practice.db, practice.actor, image_id, analysis, datetime.now(UTC))
    (image,) = practice.sign_in(user).study(study_id)["images"]
    return image


def test_flaws_come_worst_first_with_hints_for_a_retake(practice):
    flags = (
        QualityFlag(QualityKind.RECEPTOR, "Scratched.", 0.9),
        QualityFlag(QualityKind.APEX_CUT, "Cut.", teeth=(Tooth("46"),), is_disqualifying=True),
    )
    image = shown(practice, quality=flags, side="R", region="lower right molar")
    assert (image["side"], image["region"]) == ("R", "lower right molar")
    worst, other = image["flaws"]
    assert (worst["kind"], worst["words"], worst["teeth"]) == ("apex_cut", "Cut.", ["46"])
    assert worst["is_disqualifying"]
    assert "apices" in worst["hint"]
    assert (other["kind"], other["hint"]) == ("receptor", "")


def test_an_image_that_lies_otherwise_says_so(practice):
    (flaw,) = shown(practice, orientation=Orientation(2, False, True))["flaws"]
    assert flaw["kind"] == "orientation"
    assert "upside down and as a negative" in flaw["words"]
    assert "read upright" in flaw["words"]
    assert shown(practice)["flaws"] == []


def test_silent_mode_shows_no_flaws(open_practice):
    practice = open_practice(mode="silent")
    flags = (QualityFlag(QualityKind.BLUR, "No edge is sharp.", is_disqualifying=True),)
    image = shown(practice, quality=flags, side="R", region="lower right molar")
    assert (image["flaws"], image["side"], image["region"]) == ([], "", "")
