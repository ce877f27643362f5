"""A sensor's certificate is taken back while the node listens; DCMTK notices, others go on."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node import local_ca
from node.db.migrate import migrate
from node.db.session import Actor, open_database
from node.local_ca import Kind, LocalAuthority, Request
from node.private_file import write_private
from tests.protocol.conftest import tool

pytestmark = pytest.mark.protocol


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    db = open_database(f"sqlite:///{tmp_path / 'authority.sqlite'}")
    migrate(db)
    return local_ca.create(tmp_path / "ca", db, Actor("cli", "main"), datetime.now(UTC))


def keep(authority: LocalAuthority, kind: Kind, name: str, folder: Path) -> tuple[Path, str]:
    made = authority.issue(Request(kind, name, ("127.0.0.1",)), datetime.now(UTC))
    write_private(folder / f"{name}.key", made.key)
    write_private(folder / f"{name}.pem", made.certificate)
    return folder / f"{name}.pem", made.serial


def echo(port: int, mine: Path, authority: LocalAuthority) -> bool:
    command = [tool("echoscu"), "+tls", str(mine.with_suffix(".key")), str(mine)]
    command += ["+cf", str(authority.root_path), "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def test_a_revoked_sensor_is_refused_without_a_restart(start, authority, tmp_path):
    certificate, _ = keep(authority, Kind.DICOM, "dicom", tmp_path)
    good, _ = keep(authority, Kind.PEER, "sensor-1", tmp_path)
    lost, serial = keep(authority, Kind.PEER, "sensor-2", tmp_path)
    node = start(
        tls_certificate=str(certificate),
        tls_key=str(certificate.with_suffix(".key")),
        tls_ca=str(authority.root_path),
        tls_crl=str(authority.revoked_path),
        tls_only=True,
    )
    assert echo(node.port, lost, authority)
    authority.revoke(serial, "stolen", datetime.now(UTC))
    assert node.listener.refresh_certificates()
    assert not echo(node.port, lost, authority)
    assert echo(node.port, good, authority)
    keep(authority, Kind.DICOM, "dicom", tmp_path)  # our own, renewed under way
    assert node.listener.refresh_certificates()
    assert echo(node.port, good, authority)
