"""Several weight folders side by side: one live network a task, the rest silent or off."""

import hashlib
import json

import pytest

from models import registry, weights
from models.registry import Choice, Role
from node.errors import ConfigError


def install(folder, task="triage", version="2.0.0", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    content = f"{task} {version}".encode()
    (folder / f"{task}.pt").write_bytes(content)
    entry = {
        "task": task,
        "file": f"{task}.pt",
        "version": version,
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "Apache-2.0",
        "data": "made up",
        "card": "none.md",
        "command": "none",
    } | changes
    path = folder / "manifest.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*entries, entry]))
    return folder


def roles(found):
    return [(choice.task, choice.folder.name, choice.role.value) for choice in found]


def test_the_default_folder_is_live_unless_the_site_chooses_otherwise(tmp_path):
    default = install(install(tmp_path / "default"), "intraoral", "2.0.0")
    newer = install(tmp_path / "newer", "intraoral", "2.1.0")
    assert roles(registry.choices((), default)) == [
        ("triage", "default", "live"),
        ("intraoral", "default", "live"),
    ]
    shadow = Choice("intraoral", newer, role=Role.SHADOW)
    assert roles(registry.choices((shadow,), default)) == [
        ("triage", "default", "live"),
        ("intraoral", "default", "live"),
        ("intraoral", "newer", "shadow"),
    ]
    live = Choice("intraoral", newer)
    assert roles(registry.choices((live,), default, ["triage"])) == [
        ("triage", "default", "off"),
        ("intraoral", "default", "off"),
        ("intraoral", "newer", "live"),
    ]
    assert roles(registry.choices((live,), default, ["intraoral"]))[-1][-1] == "off"


def test_two_live_models_of_one_task_are_refused(tmp_path):
    folder = install(tmp_path / "a")
    with pytest.raises(ConfigError, match="two models are live for triage"):
        registry.choices((Choice("triage", folder), Choice("triage", folder)), folder)


def test_a_task_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="horoscope"):
        Choice("horoscope", tmp_path)
    with pytest.raises(ConfigError, match="horoscope"):
        registry.choices((), install(tmp_path / "a"), ["horoscope"])


def test_each_model_that_cannot_run_says_why(tmp_path):
    good = Choice("triage", install(tmp_path / "good"))
    cases = {
        "SHA-256": Choice("triage", install(tmp_path / "changed", sha256="0" * 64)),
        "this program runs": Choice("triage", install(tmp_path / "future", version="7.0.0")),
        "version 2.2.0 is configured": Choice("triage", good.folder, "2.2.0"),
        "holds no weights for intraoral": Choice("intraoral", good.folder),
        "does not exist": Choice("triage", tmp_path / "nowhere"),
    }
    (first, *others) = registry.listed([good, *cases.values()])
    assert first.problem == ""
    assert first.entry is not None
    assert first.entry.version == "2.0.0"
    for words, one in zip(cases, others, strict=True):
        assert words in one.problem


def test_a_chosen_model_must_load(tmp_path):
    with pytest.raises(ConfigError, match="SHA-256"):
        Choice("triage", install(tmp_path / "changed", sha256="0" * 64)).load()
    (tmp_path / "changed" / "triage.pt").unlink()
    with pytest.raises(ConfigError, match="holds no weights"):
        Choice("triage", tmp_path / "changed").load()


def test_a_pipeline_runs_the_chosen_network(tmp_path):
    pytest.importorskip("torch")
    from models.pipeline import Pipeline

    shipped = Choice("triage", weights.DEFAULT_DIR)
    empty = tmp_path / "empty"
    empty.mkdir()
    pipeline = Pipeline.load(empty, chosen=(shipped,), threads=1)
    assert [version.name for version in pipeline.versions] == ["triage"]
    assert "intraoral" in pipeline.absent
    both = pipeline.with_network(Choice("panoramic_teeth", weights.DEFAULT_DIR))
    assert [version.name for version in both.versions] == ["triage", "panoramic_teeth"]
    assert both.panoramic_teeth is not None
    both.warm_up()
