"""The worklist asked over the network by DCMTK's findscu and by pynetdicom."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, association
from pynetdicom.sop_class import ModalityWorklistInformationFind

from node.config import read_config
from node.db import tables
from node.db.session import Actor, begin, new_id
from node.dicom.instances import FolderStore
from node.dicom.scp import DicomListener
from node.domain.study import name_key
from node.engine import DurableEngine
from tests.protocol.conftest import tool

pytestmark = pytest.mark.protocol

TODAY = datetime.now(UTC).date()


def schedule(db: sa.Engine, count: int, day: date = TODAY, family: str = "Doe") -> None:
    """Put `count` people with one step each on a day, a minute apart."""
    now = datetime.now(UTC)
    with begin(db, Actor("test", "main"), "test") as tx:
        for number in range(count):
            key = f"{family}{number}"
            patient_id, visit_id = new_id(), new_id()
            everywhere = {"location_id": "main"}
            tx.conn.execute(
                tables.patient.insert().values(
                    id=patient_id, pms_key=key, synced_at=now, **everywhere
                )
            )
            tx.conn.execute(
                tables.patient_identity.insert().values(
                    patient_id=patient_id,
                    family_name=family,
                    given_name=f"Nr{number}",
                    birth_date=date(1980, 1, 2),
                    sex="F",
                    name_key=name_key(family, f"Nr{number}"),
                    **everywhere,
                )
            )
            tx.conn.execute(
                tables.appointment.insert().values(
                    id=visit_id,
                    pms_key=key,
                    patient_id=patient_id,
                    start_at=now,
                    duration_min=30,
                    status="scheduled",
                    accession_number=f"A{key}"[:16],
                    study_instance_uid=f"2.25.{abs(hash(key))}",
                    synced_at=now,
                    **everywhere,
                )
            )
            tx.conn.execute(
                tables.worklist_item.insert().values(
                    id=new_id(),
                    appointment_id=visit_id,
                    patient_id=patient_id,
                    modality="IO",
                    station_ae_title="SENSOR",
                    start_date=f"{day:%Y%m%d}",
                    start_time=f"{8 + number // 60 % 12:02}{number % 60:02}00",
                    scheduled_procedure_step_id=f"S{key}"[:16],
                    requested_procedure_id=f"R{key}"[:16],
                    description="Bitewings",
                    cdt_code="D0274",
                    **everywhere,
                )
            )


@pytest.fixture
def options() -> dict[str, object]:
    """What a test configures of [dicom] before it asks for `port`."""
    return {}


@pytest.fixture
def port(sqlite_database: sa.Engine, tmp_path: Path, options) -> Iterator[int]:
    url = sqlite_database.url.render_as_string(hide_password=False)
    engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1")
    config = read_config(None, {}, {"dicom": {"host": "127.0.0.1", "port": 0, **options}})
    listener = DicomListener(config, sqlite_database, FolderStore(tmp_path / "images"), engine)
    listener.start()
    yield listener.port
    listener.stop()


@pytest.fixture
def findscu(port: int, tmp_path: Path) -> Callable[..., list[Dataset]]:
    """Run findscu with keys; give the answers that it wrote."""
    folder = tmp_path / "answers"

    def run(
        *keys: str,
        options: tuple[str, ...] = (),
        files: tuple[Path, ...] = (),
        final: str = "Success",
    ) -> list[Dataset]:
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        arguments = [part for key in keys for part in ("-k", key)]
        done = subprocess.run(
            [
                *(tool("findscu"), "-v", "-W", "-X", "-od", str(folder), *options),
                *(*arguments, "127.0.0.1", str(port), *map(str, files)),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        log = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert final in log
        return [dcmread(path, force=True) for path in sorted(folder.iterdir())]

    return run


STEP = "ScheduledProcedureStepSequence[0]."


def test_a_sensor_asks_for_its_day(sqlite_database, findscu):
    schedule(sqlite_database, 3)
    schedule(sqlite_database, 2, TODAY + timedelta(days=1), "Roe")
    found = findscu(
        "PatientName",
        "PatientID",
        "AccessionNumber",
        "StudyInstanceUID",
        f"{STEP}Modality=IO",
        f"{STEP}ScheduledStationAETitle=SENSOR",
        f"{STEP}ScheduledProcedureStepStartDate={TODAY:%Y%m%d}",
        f"{STEP}ScheduledProcedureStepID",
    )
    assert [str(ds.PatientName) for ds in found] == ["Doe^Nr0", "Doe^Nr1", "Doe^Nr2"]
    first = found[0]
    assert first.StudyInstanceUID.startswith("2.25.")
    assert first.AccessionNumber == "ADoe0"
    step = first.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledProcedureStepID) == ("IO", "SDoe0")
    assert first.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        (["PatientName=doe*"], 3),
        (["PatientName=*NR1*"], 2),
        (["PatientName=Roe"], 2),
        (["PatientName", "PatientID=Roe1"], 1),
        (["PatientName", "AccessionNumber=ADoe2"], 1),
        (["PatientName", "Modality=IO"], 5),
        (["PatientName", f"{STEP}Modality=PX"], 0),
        (["PatientName", f"{STEP}ScheduledProcedureStepStartDate={TODAY:%Y%m%d}-"], 5),
        (["PatientName", f"{STEP}ScheduledProcedureStepStartDate=-{TODAY:%Y%m%d}"], 3),
        (["PatientName", f"{STEP}ScheduledStationAETitle=*"], 5),
        (["PatientName", "ScheduledProcedureStepSequence"], 5),
        (["PatientName", f"{STEP}ScheduledProcedureStepStartTime=080100-"], 3),
        (["PatientName=*"], 5),
    ],
)
def test_query_styles_of_real_modalities(sqlite_database, findscu, keys, count):
    schedule(sqlite_database, 3)
    schedule(sqlite_database, 2, TODAY + timedelta(days=1), "Roe")
    assert len(findscu(*keys)) == count


def test_latin_1_is_asked_and_answered(sqlite_database, findscu, tmp_path):
    schedule(sqlite_database, 1, family="Müller")
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 100"
    query.PatientName = "MÜLLER*"
    path = tmp_path / "query.dcm"
    query.save_as(path, implicit_vr=True, little_endian=True)
    found = findscu(files=(path,))
    assert [str(ds.PatientName) for ds in found] == ["Müller^Nr0"]
    assert found[0].SpecificCharacterSet == "ISO_IR 100"


def test_utf_8_without_a_charset_is_understood(sqlite_database, findscu):
    schedule(sqlite_database, 1, family="Müller")
    assert len(findscu("PatientName=müller")) == 1


@pytest.mark.parametrize(
    ("asked", "family", "codec"),
    [
        ("ISO_IR 192", "Müller", "utf-8"),
        ("GB18030", "王", "gb18030"),
        ("\\ISO 2022 IR 87", "山田", "iso2022_jp"),
    ],
)
def test_the_answer_is_in_the_charset_asked_for(
    sqlite_database, findscu, tmp_path, asked, family, codec
):
    schedule(sqlite_database, 1, family=family)
    query = Dataset()
    query.SpecificCharacterSet = asked.split("\\")
    query.PatientName = ""
    path = tmp_path / "query.dcm"
    query.save_as(path, implicit_vr=True, little_endian=True)
    (found,) = findscu(files=(path,))
    assert str(found.PatientName) == f"{family}^Nr0"
    assert "\\".join(found[0x00080005]) == asked if "\\" in asked else True
    (written,) = (tmp_path / "answers").iterdir()
    assert family.encode(codec) in written.read_bytes()


@pytest.mark.parametrize(
    "options",
    [{"stations": [{"operatory": "1", "ae_title": "OLDSENSOR", "charset": "ISO_IR 100"}]}],
)
def test_a_station_that_knows_one_charset_is_answered_in_it(
    sqlite_database, findscu, tmp_path, options
):
    schedule(sqlite_database, 1, family="Łoś-Müller")
    (found,) = findscu("PatientName", options=("-aet", "OLDSENSOR"))
    assert found.SpecificCharacterSet == "ISO_IR 100"
    assert str(found.PatientName) == "?o?-Müller^Nr0"
    (other,) = findscu("PatientName", options=("-aet", "NEWSENSOR"))
    assert str(other.PatientName) == "Łoś-Müller^Nr0"


@pytest.mark.parametrize("options", [{"worklist_by_station": True}])
def test_a_known_station_sees_its_own_steps_unless_it_names_one(sqlite_database, findscu, options):
    schedule(sqlite_database, 2)
    with begin(sqlite_database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(
            tables.worklist_item.update()
            .where(tables.worklist_item.c.scheduled_procedure_step_id == "SDoe1")
            .values(station_ae_title="PAN")
        )
    assert len(findscu("PatientName", options=("-aet", "SENSOR"))) == 1
    assert len(findscu("PatientName", options=("-aet", "RECEPTION"))) == 2
    by_name = ("PatientName", f"{STEP}ScheduledStationAETitle=PAN")
    assert len(findscu(*by_name, options=("-aet", "SENSOR"))) == 1
    everybody = ("PatientName", f"{STEP}ScheduledStationAETitle=*")
    assert len(findscu(*everybody, options=("-aet", "SENSOR"))) == 2


def test_date_and_time_ranges_are_one_interval(sqlite_database, findscu):
    """PS3.4 C.2.2.2.5: from the first day at the first time to the last day at the last time."""
    schedule(sqlite_database, 3)  # 08:00, 08:01, 08:02
    schedule(sqlite_database, 3, TODAY + timedelta(days=1), "Roe")
    found = findscu(
        "PatientName",
        f"{STEP}ScheduledProcedureStepStartDate={TODAY:%Y%m%d}-{TODAY + timedelta(days=1):%Y%m%d}",
        f"{STEP}ScheduledProcedureStepStartTime=080100-080000",
    )
    assert [str(ds.PatientName) for ds in found] == ["Doe^Nr1", "Doe^Nr2", "Roe^Nr0"]


def test_a_list_of_uids_finds_each(sqlite_database, findscu):
    schedule(sqlite_database, 3)
    known = [ds.StudyInstanceUID for ds in findscu("StudyInstanceUID", "PatientName")]
    found = findscu("PatientName", f"StudyInstanceUID={known[0]}\\{known[2]}\\2.25.1")
    assert [str(ds.PatientName) for ds in found] == ["Doe^Nr0", "Doe^Nr2"]


def test_unknown_and_private_keys_come_back_empty(sqlite_database, findscu):
    schedule(sqlite_database, 1)
    (found,) = findscu("PatientName", "EthnicGroup", "0009,0010=VENDOR")
    assert (found.EthnicGroup, str(found.PatientName)) == ("", "Doe^Nr0")


def test_cancel_after_the_fifth_answer(sqlite_database, findscu):
    schedule(sqlite_database, 600)
    found = findscu("PatientName", f"{STEP}Modality=IO", options=("--cancel", "5"), final="Cancel")
    assert 5 <= len(found) < 600


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_plain_syntax_is_answered(sqlite_database, port, syntax):
    schedule(sqlite_database, 1, family="Müller")
    entity = AE()
    entity.add_requested_context(ModalityWorklistInformationFind, syntax)
    assoc = entity.associate("127.0.0.1", port)
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.PatientName = "müller*"
    answers = [
        (status.Status, ds)
        for status, ds in assoc.send_c_find(query, ModalityWorklistInformationFind)
    ]
    assoc.release()
    assert [status for status, _ in answers] == [0xFF00, 0x0000]
    assert str(answers[0][1].PatientName) == "Müller^Nr0"


def test_an_unknown_key_is_admitted_in_the_status(sqlite_database, port):
    schedule(sqlite_database, 1)
    entity = AE()
    entity.add_requested_context(ModalityWorklistInformationFind)
    assoc = entity.associate("127.0.0.1", port)
    query = Dataset()
    query.PatientName, query.EthnicGroup = "", ""
    answers = list(assoc.send_c_find(query, ModalityWorklistInformationFind))
    assoc.release()
    assert [status.Status for status, _ in answers] == [0xFF01, 0x0000]


def test_many_queries_on_one_association(sqlite_database, port):
    schedule(sqlite_database, 20)
    entity = AE()
    entity.add_requested_context(ModalityWorklistInformationFind)
    assoc = entity.associate("127.0.0.1", port)
    for number in range(20):
        query = Dataset()
        query.PatientName, query.PatientID = "", f"Doe{number}"
        found = [ds for _, ds in assoc.send_c_find(query, ModalityWorklistInformationFind) if ds]
        assert [str(ds.PatientName) for ds in found] == [f"Doe^Nr{number}"]
    assoc.release()


def test_what_no_query_is_gets_a900(port, monkeypatch):
    """The peer encodes its identifier wrongly: an endless sequence of sequences."""
    entity = AE()
    entity.add_requested_context(ModalityWorklistInformationFind, ImplicitVRLittleEndian)
    assoc = entity.associate("127.0.0.1", port)
    query = Dataset()
    query.PatientName = ""
    monkeypatch.setattr(association, "encode", lambda *_: b"\x40\0\0\1\xff\xff\xff\xff" * 30)
    answers = list(assoc.send_c_find(query, ModalityWorklistInformationFind))
    assoc.release()
    assert [status.Status for status, _ in answers] == [0xA900]
