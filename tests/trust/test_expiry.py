"""Certificates that end: told 30 days ahead on the health page, in the metrics and in the log."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from node import local_ca
from node.check import run_checks
from node.config import Config, read_config
from node.db.migrate import migrate
from node.db.session import Actor, open_database
from node.expiry import CertificateCollector, find_expiries, warn_of_expiries
from node.local_ca import WEB_DAYS, Kind, Request
from node.private_file import write_private
from node.status import Status

NOW = datetime.now(UTC)
ACTOR = Actor("cli", "main")


class Office:
    """A node whose page has a certificate of a certain age."""

    def __init__(self, folder: Path, age: timedelta) -> None:
        overrides = {
            "node": {"data_dir": folder},
            "web": {
                "tls_certificate": str(folder / "web.pem"),
                "tls_key": str(folder / "web.key"),
            },
        }
        self.config: Config = read_config(None, {}, overrides)
        self.db = open_database(self.config.database_url)
        migrate(self.db)
        then = NOW - age
        ca = local_ca.create(folder / "ca", self.db, ACTOR, then)
        for kind, name in ((Kind.WEB, "web"), (Kind.PEER, "sensor-1")):
            made = ca.issue(Request(kind, name, ("node.lan",)), then)
            write_private(folder / f"{name}.key", made.key)
            write_private(folder / f"{name}.pem", made.certificate)


@pytest.mark.parametrize(
    ("left", "is_fine", "is_failing", "word"),
    [
        (timedelta(days=31), True, False, "web until"),
        (timedelta(days=29), False, False, "web until"),
        (timedelta(days=-1), False, True, "web EXPIRED"),
    ],
)
def test_an_end_is_told_ahead(tmp_path, caplog, left, is_fine, is_failing, word):
    office = Office(tmp_path, timedelta(days=WEB_DAYS) - left)
    probe = Status(office.db, office.config).probes()["certificates"]
    assert (probe.is_ok, probe.is_ours and not probe.is_ok) == (is_fine, is_failing)
    assert word in probe.words
    assert "handed out: peer sensor-1 until" in probe.words
    with caplog.at_level(logging.WARNING, "node.expiry"):
        assert warn_of_expiries(office.config, office.db, NOW) == (0 if is_fine else 1)
    assert ("bitewing ca renew" in caplog.text) is not is_fine
    (verdict,) = [each for each in run_checks(office.config) if each.name == "tls"]
    assert verdict.level == ("ok" if is_fine else "warn")


def test_each_end_is_a_metric(tmp_path):
    office = Office(tmp_path, timedelta(days=100))
    registry = CollectorRegistry()
    registry.register(CertificateCollector(office.config, office.db))
    text = generate_latest(registry).decode()
    end = find_expiries(office.config, office.db)[0].expires_at
    assert end is not None
    assert 'bitewing_certificate_expires_timestamp_seconds{certificate="web"}' in text
    (value,) = [float(line.split()[1]) for line in text.splitlines() if '="web"' in line]
    assert value == pytest.approx(end.timestamp())


def test_a_certificate_that_cannot_be_read_fails(tmp_path):
    office = Office(tmp_path, timedelta(0))
    (tmp_path / "web.pem").write_text("gone")
    probe = Status(office.db, office.config).probes()["certificates"]
    assert (probe.is_ok, probe.is_ours) == (False, True)
    assert "web cannot be read" in probe.words
