"""Weights: only what the manifest describes is ever loaded."""

import hashlib
import json

import pytest

from models import weights
from node.domain.findings import FindingKind, OperatingPoint
from node.errors import ConfigError

ENTRY = {
    "task": "triage",
    "file": "triage.pt",
    "version": "2.2.0",
    "licence": "Apache-2.0",
    "data": "made up",
    "card": "triage.md",
    "command": "python -m training.train",
}


def install(folder, content=b"", **changes):
    (folder / "triage.pt").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    entry = ENTRY | {"sha256": digest} | changes
    entry = {key: value for key, value in entry.items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps([entry]))


def test_a_state_dict_comes_back_as_float32_with_its_version(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "made.pt"
    torch.save({"layer": torch.ones(3, dtype=torch.float16), "count": torch.tensor(4)}, path)
    install(tmp_path, path.read_bytes())

    state, version, settings = weights.load("triage", tmp_path)

    assert state["layer"].dtype == torch.float32
    assert state["count"].dtype == torch.int64
    assert (version.name, version.version) == ("triage", "2.2.0")
    assert settings == weights.Settings()
    assert version.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_not_the_one_described_is_refused(tmp_path):
    install(tmp_path, b"tampered", sha256="0" * 64)
    with pytest.raises(ConfigError, match="SHA-256"):
        weights.load("triage", tmp_path)


@pytest.mark.parametrize("key", ["version", "sha256", "licence", "card", "data", "command"])
def test_an_entry_that_lacks_something_is_refused(tmp_path, key):
    install(tmp_path, b"x", **{key: None})
    with pytest.raises(ConfigError, match=key):
        weights.load("triage", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "1.0.0"}, "this program runs"),
        ({"version": "first"}, "no version"),
        ({"sha256": "abc"}, "no SHA-256"),
        ({"task": "horoscope"}, "unknown task"),
        ({"file": "../elsewhere.pt"}, "outside its folder"),
    ],
)
def test_an_entry_this_program_cannot_run_is_refused(tmp_path, change, words):
    install(tmp_path, b"x", **change)
    with pytest.raises(ConfigError, match=words):
        weights.load("triage", tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", "[3]"])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ConfigError):
        weights.load("triage", tmp_path)


def test_a_task_named_twice_is_refused(tmp_path):
    install(tmp_path, b"x")
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    with pytest.raises(ConfigError, match="twice"):
        weights.load("triage", tmp_path)


def test_absent_and_disabled_weights_are_none(tmp_path):
    assert weights.load("triage", tmp_path) is None
    install(tmp_path, b"x")
    assert weights.load("triage", tmp_path, disabled=["triage"]) is None
    (tmp_path / "triage.pt").unlink()
    assert weights.load("triage", tmp_path) is None


def test_names_that_are_no_task_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="horoscope"):
        weights.load("triage", tmp_path, disabled=["horoscope"])
    with pytest.raises(ConfigError, match="horoscope"):
        weights.load("horoscope", tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        weights.load("triage", tmp_path / "nowhere")


def test_a_pickle_with_code_in_it_is_not_run(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "evil.pkl"
    # A pickle that would call print(); weights_only refuses it before anything runs.
    install(tmp_path, b"\x80\x02cbuiltins\nprint\nX\x02\x00\x00\x00hi\x85R.")
    assert not path.exists()
    with pytest.raises(ConfigError, match="state dict"):
        weights.load("triage", tmp_path)


def test_the_shipped_weights_are_intact_small_and_have_a_card():
    for entry in weights.manifest(weights.DEFAULT_DIR):
        path = weights.DEFAULT_DIR / entry.file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
        assert path.stat().st_size <= 12 * 2**20
        assert (weights.DEFAULT_DIR.parent / "cards" / entry.card).exists()


SETTINGS = {
    "operating_points": {"caries": {"review": 0.2, "high_specificity": 0.7}},
    "calibration": {
        "caries": {"method": "isotonic", "scores": [0.0, 0.5], "probabilities": [0.1, 0.9]},
        "view": {"method": "temperature", "temperature": 1.5},
    },
    "reference_digest": "a" * 64,
}


def test_operating_points_and_calibration_come_with_the_entry(tmp_path):
    install(tmp_path, b"x", **SETTINGS)
    (entry,) = weights.manifest(tmp_path)
    settings = entry.settings
    assert settings.operating_points == {FindingKind.CARIES: OperatingPoint(0.2, 0.7)}
    assert settings.calibrate("caries", 0.25) == pytest.approx(0.5)
    assert settings.calibrate("calculus", 0.25) == 0.25
    assert settings.temperature("view") == 1.5
    assert settings.temperature("depth", otherwise=1.1) == 1.1
    assert settings.reference_digest == "a" * 64


def test_a_finding_is_suggested_from_its_review_point_on_the_calibrated_probability(tmp_path):
    install(tmp_path, b"x", **SETTINGS)
    settings = weights.manifest(tmp_path)[0].settings
    assert settings.suggested(FindingKind.CARIES, 0.05, threshold=0.9) is None
    assert settings.suggested(FindingKind.CARIES, 0.25, threshold=0.9) == pytest.approx(0.5)
    # A kind without a point falls back on the threshold in the weights.
    assert settings.suggested(FindingKind.CALCULUS, 0.4, threshold=0.5) is None
    assert settings.suggested(FindingKind.CALCULUS, 0.6, threshold=0.5) == 0.6


def test_an_entry_survives_writing_and_reading(tmp_path):
    install(tmp_path, b"x", **SETTINGS)
    entries = weights.manifest(tmp_path)
    written = [weights.entry_to_json(entry) for entry in entries]
    (tmp_path / "manifest.json").write_text(json.dumps(written))
    assert weights.manifest(tmp_path) == entries


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"operating_points": 3}, "objects"),
        ({"operating_points": {"toothache": {}}}, "toothache"),
        ({"operating_points": {"caries": {"review": 0.5}}}, "caries"),
        ({"operating_points": {"caries": {"review": 0.5, "high_specificity": 0.4}}}, "caries"),
        ({"operating_points": {"caries": {"review": "a", "high_specificity": 1}}}, "caries"),
        ({"calibration": {"caries": {"method": "magic"}}}, "magic"),
        ({"reference_digest": "abc"}, "reference_digest"),
        ({"thresholds": [1]}, "thresholds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, change, words):
    install(tmp_path, b"x", **change)
    with pytest.raises(ConfigError, match=words):
        weights.manifest(tmp_path)
