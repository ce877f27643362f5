"""Publishing weights: what is installed loads, and replaces only its own task."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import pytest

torch = pytest.importorskip("torch")

from models import weights
from training import publish


def arguments(file, folder, task="triage", version="1.0.0"):
    return [
        str(file),
        *("--task", task, "--version", version, "--licence", "none", "--data", "made up"),
        *("--command", "none", "--weights", str(folder)),
    ]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "trained.pt"
    torch.save({"layer": torch.ones(2, dtype=torch.float16)}, path)
    return path


def test_published_weights_load(file, tmp_path):
    folder = tmp_path / "weights"
    assert publish.main(arguments(file, folder, "panoramic_teeth")) == 0
    assert publish.main(arguments(file, folder)) == 0
    assert publish.main(arguments(file, folder, version="1.1.0")) == 0
    assert [(e.task, e.version) for e in weights.manifest(folder)] == [
        ("triage", "1.1.0"),
        ("panoramic_teeth", "1.0.0"),
    ]
    loaded = weights.load("triage", folder)
    assert loaded is not None
    assert loaded.version.version == "1.1.0"


def test_settings_are_published_with_the_weights(file, tmp_path, capsys):
    folder, settings = tmp_path / "weights", tmp_path / "settings.json"
    settings.write_text('{"calibration": {"view": {"method": "temperature", "temperature": 2}}}')
    assert publish.main([*arguments(file, folder), "--settings", str(settings)]) == 0
    loaded = weights.load("triage", folder)
    assert loaded is not None
    assert loaded.settings.temperature("view") == 2.0
    for text in ("[]", "{", '{"operating_points": 3}'):
        settings.write_text(text)
        assert publish.main([*arguments(file, folder), "--settings", str(settings)]) == 2


def test_a_missing_file_and_a_wrong_version_are_refused(file, tmp_path, capsys):
    folder = tmp_path / "weights"
    assert publish.main(arguments(tmp_path / "none.pt", folder)) == 2
    assert publish.main(arguments(file, folder, version="9.0.0")) == 2
    assert "9.0.0" in capsys.readouterr().err
    assert not (folder / "manifest.json").exists()
