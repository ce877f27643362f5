"""Exporting weights: what is installed loads, replaces its own task only, and fills its card."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import pytest

torch = pytest.importorskip("torch")

from models import weights
from training import card, export, metrics, report


def arguments(file, folder, task="triage", version="2.0.0"):
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


def test_exported_weights_load(file, tmp_path):
    folder = tmp_path / "weights"
    assert export.main(arguments(file, folder, "panoramic_teeth", "1.0.0")) == 0
    assert export.main(arguments(file, folder)) == 0
    assert export.main(arguments(file, folder, version="2.1.0")) == 0
    assert [(e.task, e.version) for e in weights.manifest(folder)] == [
        ("triage", "2.1.0"),
        ("panoramic_teeth", "1.0.0"),
    ]
    loaded = weights.load("triage", folder)
    assert loaded is not None
    assert loaded.version.version == "2.1.0"


def test_settings_are_published_with_the_weights(file, tmp_path, capsys):
    folder, settings = tmp_path / "weights", tmp_path / "settings.json"
    settings.write_text('{"calibration": {"view": {"method": "temperature", "temperature": 2}}}')
    assert export.main([*arguments(file, folder), "--settings", str(settings)]) == 0
    loaded = weights.load("triage", folder)
    assert loaded is not None
    assert loaded.settings.temperature("view") == 2.0
    for text in ("[]", "{", '{"operating_points": 3}'):
        settings.write_text(text)
        assert export.main([*arguments(file, folder), "--settings", str(settings)]) == 2


def test_a_missing_file_and_a_wrong_version_are_refused(file, tmp_path, capsys):
    folder = tmp_path / "weights"
    assert export.main(arguments(tmp_path / "none.pt", folder)) == 2
    assert export.main(arguments(file, folder, version="9.0.0")) == 2
    assert "9.0.0" in capsys.readouterr().err
    assert not (folder / "manifest.json").exists()


def figures_file(path, digest, task="triage"):
    found = report.Report(task, 3, 3, "named", {"accuracy": metrics.Figure(0.5, 0.25, 0.75)})
    touched = [{"weights_sha256": digest, "data_sha256": "0" * 64, "part": "test"}]
    body = {"format": "bitewing-evaluation/1", **report.to_json(found)}
    path.write_text(report.dumps(body | {"others": [], "touched": touched}))
    return path


def test_figures_go_into_the_card_of_the_weights_they_are_of(file, tmp_path, capsys):
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "triage.md").write_text("# Triage\n")
    figures = figures_file(tmp_path / "figures.json", weights.digest(file))
    more = ["--figures", str(figures), "--cards", str(cards)]
    assert export.main([*arguments(file, tmp_path / "weights"), *more]) == 0
    assert "| accuracy | 0.500 | 0.250 – 0.750 |" in card.section(cards / "triage.md", "real")
    for wrong in (
        figures_file(tmp_path / "other.json", "f" * 64),
        figures_file(tmp_path / "task.json", weights.digest(file), "intraoral"),
        cards / "triage.md",
    ):
        more = ["--figures", str(wrong), "--cards", str(cards)]
        assert export.main([*arguments(file, tmp_path / "other"), *more]) == 2
    assert not (tmp_path / "other").exists()
    assert "other weights" in capsys.readouterr().err
