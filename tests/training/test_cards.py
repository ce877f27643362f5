"""The tables in the model cards are those of the figures kept beside them."""

from pathlib import Path

import pytest

from training import card, report

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
