"""The tables in the model cards are those of the figures kept beside them."""

from pathlib import Path

import pytest

from training import anchors, card, report

CARDS = Path(__file__).parents[2] / "models" / "cards"


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_a_card_and_its_figures_say_the_same(path):
    kept = card.figures_of(path)
    if not kept.exists():
        for origin in ("real", "synthetic"):
            assert card.section(path, origin) is None, "a table without the figures it is made of"
        return
    for one in card.read_figures(kept):
        assert card.section(path, one.origin) == report.table(one).strip()


def test_anchors_stand_beside_the_figures_they_are_of():
    assert anchors.find("panoramic_teeth", "fdi_exact_of_matched").people == "0.9893"
    assert "0.307" in anchors.find("intraoral", "bone_mae_mm").programs
    auroc = anchors.find("intraoral", "caries_surface_auroc_dentine")
    assert (auroc.programs, auroc.people) == ("0.90", "0.86")
    assert anchors.find("intraoral", "caries_surface_auroc").programs.startswith("0.872")
    assert anchors.find("panoramic_caries", "caries_ece") is None
    for one in anchors.ANCHORS:
        assert one.source, one.figure
