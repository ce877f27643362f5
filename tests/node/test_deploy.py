"""What ships beside the program fits it: alerts, container files, the page of ports."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import yaml
from prometheus_client import generate_latest

from node.app import parse_parts
from node.backup.runs import note_run
from node.config import read_config
from node.db.session import Actor, begin
from node.disk import DiskCollector, disk_of
from node.expiry import CertificateCollector
from node.fleet.report import compose_report
from node.fleet.reports import FleetCollector, keep_report
from node.status import BACKUP, Status, metrics

ROOT = Path(__file__).parents[2]


def test_alerts_ask_for_metrics_and_labels_that_exist(sqlite_database, tmp_path) -> None:
    config = read_config(environment={}, overrides={"node": {"data_dir": tmp_path}})
    status = Status(sqlite_database, config)
    registry = metrics(status)
    registry.register(CertificateCollector(config, sqlite_database))
    registry.register(DiskCollector(disk_of(config)))
    registry.register(FleetCollector(sqlite_database, "main"))
    actor = Actor("test", "main")
    report = compose_report(status)
    keep_report(sqlite_database, actor, "north", report)
    with begin(sqlite_database, actor, "test") as tx:
        note_run(tx, last_ok_at=datetime.now(UTC))
    said = generate_latest(registry).decode()
    rules = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        for name in re.findall(r"bitewing_\w+", rule["expr"]):
            assert f"# TYPE {name} gauge" in said, rule["alert"]
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in ("part", "location", "certificate")
    assert 'bitewing_part_ok{part="database"} 1.0' in said
    assert f"bitewing_{BACKUP}_age_seconds" in said


def test_the_containers_run_what_there_is() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    parts = set()
    for name in ("node", "analysis"):
        service = compose["services"][name]
        variables = {
            key: value
            for key, value in service["environment"].items()
            if key.startswith("BITEWING_")
        }
        config = read_config(environment=variables)
        assert config.database_url.startswith("postgresql+psycopg://bitewing@database")
        parts |= parse_parts(service["command"][-1])
    assert {part.value for part in parts} == {"dicom", "web", "workflows", "analysis"}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    variables = dict(re.findall(r"(BITEWING_\w+)=(\S+)", dockerfile))
    config = read_config(environment=variables)
    assert config.encryption.key_file.startswith("/keys/")
    assert str(config.node.data_dir) == "/data"
    for package in re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE):
        assert (ROOT / package / "__init__.py").exists()


def test_the_page_of_ports_names_the_ports_that_are_opened() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    config = read_config(environment={})
    for section, port in (
        ("dicom", config.dicom.port), ("web", config.web.port), ("bridge", config.bridge.port)
    ):  # fmt: skip
        (line,) = [each for each in page.splitlines() if f"`[{section}] port`" in each]
        assert line.startswith(f"| {port}/tcp"), section
