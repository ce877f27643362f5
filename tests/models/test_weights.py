"""Weights: only what the manifest describes is ever loaded."""

import hashlib
import json

import pytest

from models import weights
from node.errors import ConfigError

ENTRY = {
    "task": "triage",
    "file": "triage.pt",
    "version": "1.2.0",
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

    state, version = weights.load("triage", tmp_path)

    assert state["layer"].dtype == torch.float32
    assert state["count"].dtype == torch.int64
    assert (version.name, version.version) == ("triage", "1.2.0")
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
        ({"version": "2.0.0"}, "this program runs"),
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
