"""From C-STORE to the chart note on a real node: nobody can be read off its disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import Config, read_config
from node.db import keys
from node.db.keys import Sealing
from node.db.migrate import migrate
from node.db.sealed import keys_of, sealed_columns
from node.db.session import Actor, begin, new_id, open_database, read
from node.db.tables import metadata, patient, patient_identity, pms_record, workflow_case
from node.dicom.instances import FolderStore
from node.domain.study import name_key
from pms_writeback.sandbox.server import running
from tests.faults.running_node import ROOT, NodeProcess, sample_study, until
from tests.faults.test_kill_node import all_done, sign_study

pytestmark = pytest.mark.faults

ACTOR = Actor("test", "main")
_FAMILY = "Quendelwurz"
#: Names of the practice's cast that are English words, as our own texts write them.
_OUR_WORDS = {"sandbox", "sample", "invented", "nobody"}
_SINGULAR = ("1961-07-23", "19610723", "+1555010")


@pytest.fixture(params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node against a sandbox practice, on either database."""
    shared = ""
    if request.param == "postgresql":
        template = request.getfixturevalue("postgresql_server")
        shared = template.format(request.getfixturevalue("empty_postgresql"))
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        (tmp_path / "data").mkdir()
        process = NodeProcess(tmp_path, sandbox, shared_database=shared)
        process.add_dentist()
        process.start()
        yield process
        if process.process is not None and process.process.poll() is None:
            process.kill()


@pytest.fixture
def empty_postgresql(postgresql_server: str) -> Iterator[str]:
    from tests.conftest import _administer

    name = f"sealed_{new_id()[:12]}"
    _administer(postgresql_server, f"CREATE DATABASE {name}")
    yield name
    _administer(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def invented_words(node: NodeProcess) -> set[bytes]:
    """Everything that tells who the practice's invented patients are, as it might be written."""
    words: set[str] = set()
    for person in node.sandbox.rows("patients"):
        born = str(person["Birthdate"])
        words |= {born, born.replace("-", "")}
        for field in ("LName", "FName", "WirelessPhone", "HmPhone", "Email", "Address"):
            words.add(str(person.get(field, "")))
    words |= {each.replace(" ", "^") for each in words}
    words |= {each.upper() for each in words} | {each.lower() for each in words}
    return {word.encode() for word in words - _OUR_WORDS if len(word) >= 6}


def found_in(folder: Path, words: set[bytes]) -> dict[str, set[bytes]]:
    """Look for words in every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            hits = {word for word in words if word in data}
            if hits:
                found[str(path.relative_to(folder))] = hits
    return found


def dump(node: NodeProcess) -> bytes:
    """Read every row of every table, the engine's too, as PostgreSQL has them."""
    db = open_database(node.database_url)
    with db.connect() as conn:
        tables = conn.execute(
            sa.text(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
        ).all()
        parts = [
            str(conn.execute(sa.text(f'SELECT t::text FROM "{schema}"."{name}" t')).all())
            for schema, name in tables
        ]
    db.dispose()
    assert len(parts) > 40
    return "\n".join(parts).encode()


def test_nobody_can_be_read_off_the_disk(node: NodeProcess) -> None:
    study_id = sign_study(node, "bitewing-1")
    until(lambda: all_done(node, study_id), 150, "the chart write")
    words = invented_words(node)
    person = sample_study("bitewing-1").patient
    assert len(words) > 20
    folder = node.folder / "data"
    assert list((folder / "images").rglob("*.dcm"))
    assert found_in(folder, words) == {}  # the log of changes too, while the node runs
    node.kill()
    assert found_in(folder, words) == {}
    if node.shared_database:
        text = dump(node)
        assert {word for word in words if word in text} == set()
    node.start()
    rows = node.rows(sa.select(patient_identity.c.family_name))
    assert any(row.family_name.encode() in words for row in rows)  # with the keys all is there
    assert node.scheduled(person.id)


def test_a_node_without_its_key_says_so_and_shows_nothing(node: NodeProcess) -> None:
    node.stop()
    path = node.folder / "data.key"
    path.rename(node.folder / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-m", "node", "serve", "--config", str(node.write_config())],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 2
    assert "data.key is missing; put it back" in done.stderr
    (node.folder / "elsewhere").rename(path)
    node.start()


# --- data of before ------------------------------------------------------------------------------


def _fill(db: sa.Engine, images: Path, people: int) -> None:
    """Leave data as a release without encryption did: plain rows, plain files."""
    store = FolderStore(images)
    with begin(db, ACTOR, "test.before") as tx:
        for number in range(people):
            key, patient_id = f"{_SINGULAR[2]}{number:04d}", new_id()
            tx.conn.execute(
                patient.insert().values(
                    id=patient_id, location_id="main", pms_key=key, synced_at=tx.now
                )
            )
            tx.conn.execute(
                patient_identity.insert().values(
                    patient_id=patient_id,
                    location_id="main",
                    family_name=_FAMILY,
                    given_name=f"Nr{number}",
                    name_key=name_key(_FAMILY, f"Nr{number}"),
                )
            )
            tx.conn.execute(
                pms_record.insert().values(
                    id=new_id(), location_id="main", kind="insurance", pms_key=f"r{number}",
                    patient_key=key, record={"born": _SINGULAR[0], "to": None}, raw={},
                    digest="d", synced_at=tx.now,
                )
            )  # fmt: skip
            tx.conn.execute(
                workflow_case.insert().values(
                    id=new_id(), location_id="main", workflow="w", key=str(number),
                    patient_id=patient_id, state="done", data={"who": _FAMILY},
                    created_at=tx.now, updated_at=tx.now,
                )
            )  # fmt: skip
            content = f"film of {_FAMILY} {number}".encode() * 4000
            store.put("main", f"film{number:06d}.dcm", lambda file, c=content: file.write(c))
        tx.record("x")


def _encrypt(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "node", "encrypt-data", "--config", str(folder / "b.toml")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def _readable(config: Config, people: int) -> None:
    """Every value is there as it was, whatever is sealed by now, and everybody can be found."""
    db = open_database(config.database_url)
    keys.attach_keys(db, config, "main")
    with read(db) as conn:
        rows = conn.execute(sa.select(patient_identity)).all()
        assert {row.family_name for row in rows} == {_FAMILY}
        assert len(rows) == people
        for number in (0, people - 1):
            key = f"{_SINGULAR[2]}{number:04d}"
            found = sa.select(patient.c.id).where(patient.c.pms_key == key)
            assert len(conn.execute(found).all()) == 1
            mine = sa.select(pms_record.c.record).where(pms_record.c.patient_key == key)
            assert conn.execute(mine).scalar_one() == {"born": _SINGULAR[0], "to": None}
    store = FolderStore(config.node.data_dir / "images", ring=keys_of(db))
    for number in range(people):
        name = f"film{number:06d}.dcm"
        with store.open(f"main/fi/{name}") as file:
            assert file.read() == f"film of {_FAMILY} {number}".encode() * 4000
    db.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_old_data_is_sealed_whatever_cuts_it_off(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    people, url = 60, ""
    if kind == "postgresql":
        template = request.getfixturevalue("postgresql_server")
        url = template.format(request.getfixturevalue("empty_postgresql"))
    (tmp_path / "b.toml").write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[database]\nurl = "{url}"\n'
    )
    config = read_config(tmp_path / "b.toml", environment={})
    db = open_database(config.database_url)
    migrate(db)
    _fill(db, config.node.data_dir / "images", people)
    db.dispose()
    _readable(config, people)
    for lines in (0, 1, 1, 2, 1):  # at any instant, and after so many words of what is done
        process = _encrypt(tmp_path)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        assert all(said)
        if not lines:
            time.sleep(1.5)  # a kill at an arbitrary instant is the point
        process.send_signal(signal.SIGKILL)
        process.communicate()
        _readable(config, people)
    process = _encrypt(tmp_path)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    _readable(config, people)
    db = open_database(config.database_url)
    assert keys.sealing_of(db, "main") is Sealing.WHOLLY
    words = {word.encode() for word in (_FAMILY, _FAMILY.lower(), *_SINGULAR)}
    if kind == "sqlite":
        db.dispose()
        assert found_in(tmp_path / "data", words) == {}
        return
    assert found_in(tmp_path / "data", words) == {}
    with db.connect() as conn:
        for column, _ in sealed_columns(metadata):
            raw = sa.column(column.name, sa.Text)
            table = sa.table(column.table.name, raw)
            plain = sa.select(raw).select_from(table).where(raw != "", ~raw.startswith("bw1:"))
            assert conn.execute(plain).all() == [], column
    db.dispose()
