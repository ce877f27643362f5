"""The command line as an IT person types it: one sentence, the right exit code."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import Actor, begin, open_database
from pms_writeback.sandbox.sftp import sftp_serving

ROOT = Path(__file__).parents[2]


def bitewing(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BITEWING_")}
    return subprocess.run(
        [sys.executable, "-m", "node", *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **(environment or {})},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_answers_without_loading_the_house(tmp_path: Path) -> None:
    program = (
        "import sys, node.__main__; "
        "heavy = {'torch', 'dbos', 'pynetdicom', 'sqlalchemy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "serve" in bitewing(tmp_path, "--help").stdout


def test_check_gives_a_verdict_for_each_part(tmp_path: Path) -> None:
    done = bitewing(tmp_path, "check", environment={"BITEWING_DICOM_PORT": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("config", "database", "disk", "dicom", "web", "weights", "pms"):
        assert f"  {name}" in done.stdout
    assert "mode assist" in done.stdout
    assert "set: dicom.port = 0" in done.stdout


def test_check_fails_for_wrong_weights_and_an_absent_pms(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("not json")
    done = bitewing(
        tmp_path,
        "check",
        environment={
            "BITEWING_DICOM_PORT": "0",
            "BITEWING_ANALYSIS_WEIGHTS_DIR": str(tmp_path),
            "BITEWING_PMS_KIND": "open_dental",
            "BITEWING_PMS_BASE_URL": "http://127.0.0.1:9/api/v1",
            "BITEWING_PMS_DEVELOPER_KEY": "d",
            "BITEWING_PMS_CUSTOMER_KEY": "SECRET-KEY",
        },
    )
    assert done.returncode == 2
    assert "FAIL  weights" in done.stdout
    assert "FAIL  pms" in done.stdout
    assert "pms.customer_key = **********" in done.stdout
    assert "SECRET-KEY" not in done.stdout + done.stderr


def test_configuration_errors_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bitewing.toml").write_text("[dicom]\nprot = 104\n")
    done = bitewing(tmp_path, "check")
    assert done.returncode == 2
    assert done.stderr.strip() == "bitewing: unknown key dicom.prot (did you mean port?)"
    assert bitewing(tmp_path, "serve", "--only", "dcm").returncode == 2
    assert bitewing(tmp_path, "srve").returncode == 2


def test_migrate_and_verify_audit(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    first = bitewing(tmp_path, "migrate", "--data-dir", folder)
    assert first.stdout.startswith("empty -> ")
    assert "already at" in bitewing(tmp_path, "migrate", "--data-dir", folder).stdout
    db = open_database(f"sqlite:///{folder}/bitewing.sqlite")
    for number in range(3):
        with begin(db, Actor("test", "main"), "test") as tx:
            tx.record("object", number=number)
    whole = bitewing(tmp_path, "verify-audit", "--data-dir", folder)
    assert (whole.returncode, whole.stdout.strip()) == (0, "3 audit rows, chain intact")
    with db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.execute(sa.text("DROP TRIGGER audit_no_update"))
        conn.execute(sa.text("UPDATE audit SET action = 'other' WHERE seq = 2"))
    db.dispose()
    broken = bitewing(tmp_path, "verify-audit", "--data-dir", folder)
    assert broken.returncode == 1
    assert "row 2" in broken.stderr


def test_an_account_is_made_once(tmp_path: Path) -> None:
    command = ("user", "add", "osei", "--role", "dentist", "--data-dir", str(tmp_path / "data"))
    password = "a long password\na long password\n"
    done = bitewing(tmp_path, *command, text=password)
    assert done.returncode == 0, done.stderr
    assert "may sign in as dentist" in done.stdout
    again = bitewing(tmp_path, *command, text=password)
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    wrong = (*command[:4], "wizard", *command[5:])
    assert bitewing(tmp_path, *wrong, text=password).returncode == 2


def test_what_is_silent_is_printed_to_a_clinical_lead_only(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    for name, role in (("osei", "dentist"), ("kim", "office_manager")):
        command = ("user", "add", name, "--role", role, "--data-dir", folder)
        assert bitewing(tmp_path, *command, text="a long password\n" * 2).returncode == 0
    export = ("export-findings", "1.2.3", "--include-silent", "--data-dir", folder)
    assert "needs --user" in bitewing(tmp_path, *export).stderr
    asked = (*export, "--user", "kim", "--password", "a long password")
    assert "needs the right" in bitewing(tmp_path, *asked).stderr
    wrong = bitewing(tmp_path, *export, "--user", "osei", "--password", "another password")
    assert "do not fit" in wrong.stderr
    lead = bitewing(tmp_path, *export, "--user", "osei", "--password", "a long password")
    assert "no study" in lead.stderr


def test_unknown_studies_and_receivers_are_refused_in_words(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    bitewing(tmp_path, "migrate", "--data-dir", folder)
    done = bitewing(tmp_path, "export-findings", "1.2.3", "--json", "--data-dir", folder)
    assert done.returncode == 1
    assert "no study" in done.stderr
    for receiver in ("nowhere", "AE@host:0"):
        assert bitewing(tmp_path, "send", str(tmp_path), "--to", receiver).returncode == 2


def test_a_taken_port_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        where = {"BITEWING_DICOM_HOST": "127.0.0.1", "BITEWING_NODE_LOG_LEVEL": "ERROR"}
        dicom = bitewing(tmp_path, "serve", "--dicom-port", port, environment=where)
        web = bitewing(
            tmp_path, "serve", "--dicom-port", "0", "--http-port", port, environment=where
        )
    assert (dicom.returncode, web.returncode) == (2, 2)
    for done, option in ((dicom, "--dicom-port"), (web, "--http-port")):
        assert done.stderr.count("\n") == 1, done.stderr
        assert port in done.stderr
        assert option in done.stderr


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "another"])
def test_check_says_whether_the_sftp_server_is_the_pinned_one(
    tmp_path: Path, is_pinned: bool
) -> None:
    with sftp_serving(tmp_path / "drop") as site, sftp_serving(tmp_path / "other") as other:
        done = bitewing(
            tmp_path,
            "check",
            environment={
                "BITEWING_DICOM_PORT": "0",
                "BITEWING_PMS_SFTP_HOST": site.host,
                "BITEWING_PMS_SFTP_PORT": str(site.port),
                "BITEWING_PMS_SFTP_USER": site.user,
                "BITEWING_PMS_SFTP_PASSWORD": site.password,
                "BITEWING_PMS_SFTP_HOST_KEY": site.host_key if is_pinned else other.host_key,
            },
        )
    assert f"{'ok  ' if is_pinned else 'FAIL'}  documents" in done.stdout, done.stdout
    assert done.returncode == (0 if is_pinned else 2)
    assert site.password not in done.stdout + done.stderr
