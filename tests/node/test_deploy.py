"""What ships beside the program fits it: alerts, container files, the page of ports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from threading import Thread

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
from node.objects.standing import ObjectsCollector
from node.status import BACKUP, Status, metrics
from tests.protocol.certificates import Authority

ROOT = Path(__file__).parents[2]


def test_alerts_ask_for_metrics_and_labels_that_exist(sqlite_database, tmp_path) -> None:
    config = read_config(environment={}, overrides={"node": {"data_dir": tmp_path}})
    status = Status(sqlite_database, config)
    registry = metrics(status)
    registry.register(CertificateCollector(config, sqlite_database))
    registry.register(DiskCollector(disk_of(config)))
    registry.register(FleetCollector(sqlite_database, "main"))
    registry.register(ObjectsCollector(sqlite_database, "main"))
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
        secret = variables.pop("BITEWING_OBJECTS_SECRET_KEY_FILE").removeprefix("/run/secrets/")
        assert secret in service["secrets"]
        variables["BITEWING_OBJECTS_SECRET_KEY"] = secret
        config = read_config(environment=variables)
        assert config.database_url.startswith("postgresql+psycopg://bitewing@database")
        assert config.objects.host in compose["services"]
        parts |= parse_parts(service["command"][-1])
    assert {part.value for part in parts} == {"dicom", "web", "workflows", "analysis"}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    variables = dict(re.findall(r"(BITEWING_\w+)=(\S+)", dockerfile))
    config = read_config(environment=variables)
    assert config.encryption.key_file.startswith("/keys/")
    assert str(config.node.data_dir) == "/data"
    for package in re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE):
        assert (ROOT / package / "__init__.py").exists()


def test_the_containers_write_only_where_their_user_may() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (owned,) = re.findall(r"install -d -o bitewing .* 0700 (.*)", dockerfile)
    (kept,) = re.findall(r"^VOLUME (.*)", dockerfile, re.MULTILINE)
    assert owned.split() == yaml.safe_load(kept)
    for name in ("node", "analysis"):
        assert compose["services"][name]["read_only"]
        mounts = [each.partition(":")[2] for each in compose["services"][name]["volumes"]]
        assert mounts == owned.split(), name


def test_the_builder_gets_what_the_dockerfile_copies_and_no_data() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    first, *let_in = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith(("#", "**"))
    ]
    copied = {
        name
        for words in re.findall(r"^COPY (?!--from)(.*)", dockerfile, re.MULTILINE)
        for name in words.split()[:-1]
    }
    assert first == "*"
    assert {line.removeprefix("!") for line in let_in} == copied
    assert all((ROOT / name).exists() for name in copied)


class _Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Ill(_Well):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()


@contextmanager
def _serving(handler: type[_Well], context: SSLContext | None = None) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        port = server.server_port
        server.handle_error = lambda *_: None  # plain words on a TLS port
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield port
        server.shutdown()
        thread.join()


def _asked(port: int) -> int:
    command = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
    variables = {**os.environ, "BITEWING_WEB_PORT": str(port)}
    return subprocess.run(command, env=variables, check=False, timeout=60).returncode


def test_the_health_check_of_the_container_tells_well_from_ill(tmp_path: Path) -> None:
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("localhost"))
    with _serving(_Well) as port:
        assert _asked(port) == 0
    with _serving(_Well, context) as port:
        assert _asked(port) == 0
    with _serving(_Ill) as port:
        assert _asked(port) == 1
    assert _asked(port) == 1  # nobody is there any more


def test_both_units_are_hardened_alike() -> None:
    node, bridge = (
        dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy" / name).read_text(), re.MULTILINE))
        for name in ("bitewing.service", "bitewing-bridge.service")
    )
    own = {"Description", "WorkingDirectory", "ExecStart", "StateDirectory"}
    assert {key: value for key, value in node.items() if key not in own} == {
        key: value for key, value in bridge.items() if key not in own
    }
    for unit in (node, bridge):
        assert unit["WorkingDirectory"] == f"/var/lib/{unit['StateDirectory']}"
        assert (unit["ProtectSystem"], unit["UMask"]) == ("strict", "0077")


def test_the_page_of_ports_names_the_ports_that_are_opened() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    config = read_config(environment={})
    for section, port in (
        ("dicom", config.dicom.port), ("web", config.web.port), ("bridge", config.bridge.port)
    ):  # fmt: skip
        (line,) = [each for each in page.splitlines() if f"`[{section}] port`" in each]
        assert line.startswith(f"| {port}/tcp"), section
