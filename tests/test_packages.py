"""The packages that are imported are ours."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "name", ["node", "models", "pms_writeback", "orchestration", "sample_studies", "training"]
)
def test_a_foreign_package_does_not_shadow_ours(name: str) -> None:
    module = import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)
