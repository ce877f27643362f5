"""Changed looks keep the frame, stay in range and repeat from a seed."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from training import looks


@pytest.mark.parametrize("shape", [(96, 128), (128, 96)])
@pytest.mark.parametrize("fill", [0, 255, None], ids=["black", "white", "ramp"])
def test_any_film_stays_a_film(shape, fill):
    ramp = np.tile(np.linspace(0, 255, shape[1]).astype(np.uint8), (shape[0], 1))
    film = ramp if fill is None else np.full(shape, fill, np.uint8)
    for seed in range(40):
        changed = looks.change(np.random.default_rng(seed), film)
        assert changed.shape == shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert 0 <= changed.min() <= changed.max() <= 1


def test_the_same_seed_gives_the_same_looks():
    film = np.random.default_rng(1).integers(0, 255, (96, 128), np.uint8)
    one, two = (looks.change(np.random.default_rng(5), film) for _ in range(2))
    assert np.array_equal(one, two)


def test_bright_stays_brighter_than_dark():
    film = np.full((96, 128), 40, np.uint8)
    film[:, 64:] = 210
    for seed in range(40):
        changed = looks.change(np.random.default_rng(seed), film)
        assert np.median(changed[20:76, 74:118]) >= np.median(changed[20:76, 10:54])
