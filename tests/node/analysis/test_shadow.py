"""Networks in trial read silently: after the live result, apart from it, and never twice."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.uid import generate_uid

from models import weights
from node.analysis.inference import InferenceProcess
from node.analysis.shadow import ShadowReader, all_choices, shadow_sections
from node.config import AnalysisSection, ModelSection
from node.db.session import begin, read
from node.db.tables import analysis_run, finding, instance, shadow_run, tooth_mark
from node.engine import DurableEngine
from node.errors import ConfigError
from tests.node.analysis.test_workflows import ACTOR, House, _until

pytest.importorskip("torch")
TRIAL = ModelSection(task="triage", dir=weights.DEFAULT_DIR, role="shadow")


@pytest.fixture
def house(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[House]:
    opened = House(sqlite_database, engine, tmp_path)
    yield opened
    opened.inference.close()


@pytest.fixture
def reader(house: House, tmp_path: Path) -> Iterator[ShadowReader]:
    section = AnalysisSection(
        weights_dir=str(tmp_path / "weights"), timeout_s=60, models=(TRIAL,), runtime="torch"
    )
    process = InferenceProcess(section, shadows=[TRIAL])
    yield ShadowReader(house.db, ACTOR, process, [TRIAL], house.store.path)
    process.close()


def rows(house: House, table: sa.Table) -> list[sa.Row]:  # type: ignore[type-arg]
    with read(house.db) as conn:
        return list(conn.execute(sa.select(table)))


def analysed(house: House, count: int = 1, **changes: object) -> list[str]:
    uid = generate_uid()
    images = [house.send(uid, **changes) for _ in range(count)]
    _until(lambda: all(house.state(image)[0] != "received" for image in images))
    return images


def test_a_shadow_reads_each_image_once_and_apart(house: House, reader: ShadowReader) -> None:
    images = analysed(house, 2)
    before = {table.name: rows(house, table) for table in (analysis_run, finding, tooth_mark)}

    assert reader.read_waiting(lambda: False) == 2
    assert reader.read_waiting(lambda: False) == 0

    found = rows(house, shadow_run)
    assert {row.instance_id for row in found} == set(images)
    assert {(row.task, row.version, row.failure) for row in found} == {
        ("triage", weights.manifest(weights.DEFAULT_DIR)[0].version, "")
    }
    assert all(row.findings == [] and row.duration_ms > 0 and row.pipeline for row in found)
    after = {table.name: rows(house, table) for table in (analysis_run, finding, tooth_mark)}
    assert after == before


def test_a_shadow_waits_for_live_images(house: House, reader: ShadowReader) -> None:
    analysed(house)
    with begin(house.db, ACTOR, "test") as tx:
        tx.conn.execute(instance.update().values(state="received"))
        tx.record("test")
    assert reader.read_waiting(lambda: False) == 0
    assert rows(house, shadow_run) == []


def test_an_image_that_a_shadow_cannot_read_is_kept_as_failed(
    house: House, reader: ShadowReader
) -> None:
    (image,) = analysed(house)
    with read(house.db) as conn:
        key = conn.execute(sa.select(instance.c.storage_key)).scalar_one()
    path = house.store.path(key)
    path.chmod(0o644)
    path.write_bytes(b"gone")
    assert reader.read_waiting(lambda: False) == 1
    (row,) = rows(house, shadow_run)
    assert row.instance_id == image
    assert row.failure
    assert row.findings is None


def test_images_of_another_view_are_not_read(house: House, reader: ShadowReader) -> None:
    analysed(house)  # without networks the live view is unknown
    reader.shadows = [TRIAL.model_copy(update={"task": "panoramic_teeth"})]
    assert reader.read_waiting(lambda: False) == 0


def test_a_shadow_that_is_not_what_it_claims_is_off_and_said_once(
    house: House, reader: ShadowReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    analysed(house)
    broken = tmp_path / "broken"
    broken.mkdir()
    (entry,) = [
        weights.entry_to_json(e)
        for e in weights.manifest(weights.DEFAULT_DIR)
        if e.task == "triage"
    ]
    (broken / "manifest.json").write_text(json.dumps([entry]))
    (broken / "triage.pt").write_bytes(b"something else")
    trial = TRIAL.model_copy(update={"dir": broken})
    process = InferenceProcess(reader.inference._config, shadows=[trial])
    refused = ShadowReader(house.db, ACTOR, process, [trial], house.store.path)
    with caplog.at_level(logging.ERROR, "bitewing"):
        assert refused.read_waiting(lambda: False) == 0
        assert refused.read_waiting(lambda: False) == 0
    (record,) = [r for r in caplog.records if r.name == "bitewing"]
    assert "SHA-256" in record.getMessage()
    assert rows(house, shadow_run) == []
    process.close()


def test_the_configuration_names_roles() -> None:
    section = AnalysisSection(models=(TRIAL,))
    assert shadow_sections(section) == (TRIAL,)
    assert shadow_sections(AnalysisSection(models=(TRIAL,), disabled_models=("triage",))) == ()
    roles = [(choice.task, choice.role.value) for choice in all_choices(section)]
    assert roles[:2] == [("triage", "live"), ("triage", "shadow")]
    with pytest.raises(ConfigError, match="horoscope"):
        all_choices(AnalysisSection(models=(TRIAL.model_copy(update={"task": "horoscope"}),)))
