"""From C-STORE to webhook, failures included: no name, birth date, chart number or secret is said.

A real node at log level DEBUG beside its sandboxes, which reports to a fleet (itself) and puts its
images into a bucket; afterwards every log line, metric, health word, audit subject, event, address
and error answer, what the office's manager and IT see, what a fleet keeps, what a bucket is asked
and what commands print is searched for the invented patients and for everything that is secret.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from minio import Minio
from typer.testing import CliRunner

from node.__main__ import cli
from node.config import Config, read_config, secret_names
from node.db import tables
from node.db.session import Actor
from node.dicom.peers import Peer
from node.dicom.send import send_paths
from node.domain.rights import Right, Role
from node.web.accounts import create_user
from node.web.tokens import Tokens
from orchestration.sandbox_partners import running_partners
from pms_writeback.sandbox.server import running
from tests.faults.running_node import PASSWORD, NodeProcess, Reviewer, sample_study, until
from tests.node.objects.swift import ACCESS_KEY, REGION, SECRET_KEY, Swift, demanded
from tests.protocol.conftest import make_film, tool, write

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

LINK_KEY = "a-link-key-of-thirty-two-characters-or-more"
WEBHOOK_SECRET = "a-webhook-secret-that-nobody-sees"
BUCKET = "films-of-somebody"
STRANGER = {"PatientName": "Zzyzxwood^Quirinella", "PatientID": "CHART-998877"}
STRANGE = ("zzyzxwood", "quirinella", "chart-998877", "19371130", "1937-11-30")
ANSWERS = {
    "sound_structure": "40",
    "placement": "initial",
    "why_not_filling": "distolingual cusp undermined",
    "prognosis": "good",
    "bleeding": "generalised",
}


class Subscriber(BaseHTTPRequestHandler):
    """Refuses the first message of each kind, then takes them; keeps what it saw."""

    seen: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append(f"{self.path} {len(body)}")
        self.send_response(503 if len(self.seen) < 3 else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def subscriber() -> Iterator[HTTPServer]:
    kind = type("Subscriber", (Subscriber,), {"seen": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def toml(value: object) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(each) for each in value)}]"
    return json.dumps(value)


@pytest.fixture
def swift() -> Iterator[Swift]:
    """Run a service that speaks S3."""
    with demanded() as server:
        yield server


@pytest.fixture
def bucket(swift: Swift) -> Minio:
    """The service as its owner sees it, with a bucket for the images."""
    host = f"127.0.0.1:{swift.port}"
    there = Minio(host, ACCESS_KEY, SECRET_KEY, secure=False, region=REGION)
    there.make_bucket(BUCKET)
    return there


@pytest.fixture
def node(
    tmp_path: Path,
    subscriber: HTTPServer,
    swift: Swift,
    bucket: Minio,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[NodeProcess]:
    monkeypatch.setenv("BITEWING_NODE_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("BITEWING_WEB_LINK_KEY", LINK_KEY)
    monkeypatch.setenv("BITEWING_PMS_RECORDS_S", "10")
    (tmp_path / "data").mkdir()
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        process = NodeProcess(tmp_path, sandbox)
        with running_partners(tmp_path, process.url, "dentist", {}) as partners:
            modes = dict.fromkeys(
                ("chart_findings", "preauthorisation", "eligibility", "notify_subscribers"),
                "assist",
            )
            hook = {
                "name": "partner",
                "url": f"http://127.0.0.1:{subscriber.server_port}/told",
                "secret": WEBHOOK_SECRET,
                "is_sandbox": True,
                "events": ["imaging_study_analyzed", "workflow_state"],
            }
            sections = {**partners.sections, "workflows": {"modes": modes, "webhooks": [hook]}}
            process.extra = "".join(
                f"[{name}]\n" + "".join(f"{key} = {toml(v)}\n" for key, v in section.items())
                for name, section in sections.items()
            )
            process.add_dentist()
            db = process.database()
            for name in ("office_manager", "admin"):
                create_user(
                    db,
                    Actor("test", "main"),
                    username=name,
                    display_name="Pat Manager",
                    role=name,
                    password=PASSWORD,
                )
            more: dict[str, dict[str, object]] = {
                "fleet": {"report_to": process.url, "token": fleet_token(db), "every_s": 5},
                "objects": {
                    "endpoint": swift.url,
                    "bucket": BUCKET,
                    "access_key": ACCESS_KEY,
                    "secret_key": SECRET_KEY,
                },
            }
            process.extra += "".join(
                f"[{name}]\n" + "".join(f"{key} = {toml(v)}\n" for key, v in section.items())
                for name, section in more.items()
            )
            db.dispose()
            process.start()
            yield process
            if process.process is not None and process.process.poll() is None:
                process.kill()


def fleet_token(db: sa.Engine) -> str:
    """Make the token with which a location reports."""
    it = Actor("test", "main")
    account = create_user(
        db, it, username="north", display_name="North", role=Role.SERVICE.value, password=""
    )
    return Tokens(db, "main").issue(it, account, "fleet", [Right.FLEET_REPORT], 90)[1]


class Answers:
    """What was answered with an error or a redirect, and which addresses were asked."""

    def __init__(self, url: str) -> None:
        self.http = httpx2.Client(base_url=url, timeout=60, follow_redirects=False)
        self.text: list[str] = []

    def ask(self, method: str, path: str, **more: object) -> httpx2.Response:
        answer = self.http.request(method, path, **more)  # type: ignore[arg-type]
        if answer.status_code >= 300:
            self.text += [answer.text, str(answer.headers)]
        return answer


def wrongs(node: NodeProcess, study_id: str) -> list[str]:
    """Everything that a person or a peer may get wrong with a patient's data in hand."""
    answers = Answers(node.url)
    name = STRANGER["PatientName"]
    answers.ask("POST", "/api/login", json={"username": name, "password": "wrong-Zzyzxwood"})
    answers.ask("POST", "/api/login", json={"username": [name], "pass": name})
    answers.ask("GET", "/api/worklist")
    me = answers.ask("POST", "/api/login", json={"username": "dentist", "password": PASSWORD})
    answers.http.headers["X-CSRF-Token"] = me.json()["csrf_token"]
    answers.ask("POST", f"/api/studies/{study_id}/link", json={"patient_id": name})
    answers.ask("POST", f"/api/studies/{study_id}/ops", json={"operations": [{"kind": name}]})
    answers.ask("POST", f"/api/studies/{study_id}/sign", json={"content_hash": name})
    answers.ask("GET", "/dicomweb/studies", params={"StudyDate": name, "includefield": name})
    answers.ask("GET", "/dicomweb/studies/1.2.3.4")
    answers.ask("POST", "/dicomweb/studies", content=name.encode())
    answers.ask("POST", "/hooks/sms", content=name.encode())
    answers.ask(
        "POST",
        "/api/chart-links",
        headers={"Authorization": f"Bearer {LINK_KEY}"},
        json={"patient_key": STRANGER["PatientID"]},
    )
    return answers.text


def send_wrong(node: NodeProcess, folder: Path) -> None:
    """A stranger's film, one with values that no attribute may have, and a damaged one."""
    folder.mkdir()
    film = make_film(**STRANGER, PatientBirthDate="19371130")
    paths = [write(film, folder / "stranger.dcm")]
    whole = paths[0].read_bytes()
    odd = whole.replace(b"19371130", b"Zzyzxwo.").replace(b"20261122", b"Quirinel")
    odd = odd.replace(
        str(film.SOPInstanceUID).encode(), str(film.SOPInstanceUID)[:-1].encode() + b"7"
    )
    (folder / "odd.dcm").write_bytes(odd)
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    send_paths(paths, Peer("BITEWING", "127.0.0.1", node.dicom_port), calling_ae="SENSOR")
    for path in ("odd.dcm", "cut.dcm"):
        command = [tool("storescu"), "-aec", "BITEWING", "127.0.0.1", str(node.dicom_port)]
        subprocess.run([*command, str(folder / path)], capture_output=True, timeout=60, check=False)
    command = [tool("findscu"), "-W", "-aec", "BITEWING", "-k", f"PatientName={film.PatientName}"]
    command += ["-k", "PatientBirthDate=Zzyzxwood", "127.0.0.1", str(node.dicom_port)]
    subprocess.run(command, capture_output=True, timeout=60, check=False)


def approve_all(node: NodeProcess, reviewer: Reviewer) -> None:
    """Decide what waits for the dentist."""
    for each in reviewer.get("/api/approvals").json()["approvals"]:
        draft = dict(reviewer.get(f"/api/approvals/{each['id']}").json().get("draft", {}))
        verdict: dict[str, object] = {"verdict": "approved"}
        if draft.get("questions"):
            draft["answers"] = {
                str(q["id"]): ANSWERS[str(q["id"]).partition(":")[0]] for q in draft["questions"]
            }
            verdict = {"verdict": "edited", "draft": draft, "reason": "examined"}
        reviewer._http.post(f"/api/approvals/{each['id']}", json=verdict)


#: Families of the invented practice that are words of every page; given names and dates are not.
OUR_WORDS = {
    *("Example", "Fiction", "Invented", "Nobody", "Placeholder", "Sample", "Sandbox", "Specimen"),
    "Trial",
}
#: What people see who look after the machine and the office, and never see a patient.
OFFICE = (
    *("/", "/fleet", "/partners", "/rollout", "/workflows", "/emergencies"),
    *("/api/worklist", "/api/fleet", "/api/partners", "/api/rollout", "/api/emergencies"),
    "/api/rollout/explain/{study}",
)


def seen_by_the_office(node: NodeProcess, study_id: str) -> dict[str, str]:
    """Look at every page of the office, as its manager and as IT."""
    said = {}
    for role in ("office_manager", "admin"):
        person = Reviewer(node.url, role)
        for path in OFFICE:
            answer = person.get(path.format(study=study_id))
            assert answer.status_code in (200, 403), (role, path, answer.status_code)
            said[f"{path} for {role}"] = answer.text
    seen = [place for place, text in said.items() if "locations" in text or "parties" in text]
    assert seen, "nobody saw anything"
    return said


#: Commands of an operator, and what they print on the way.
COMMANDS = (
    *("check", "config", "verify-audit", "audit search --most 5000", "keys list --uses"),
    *(
        "keys check --files --rows",
        "retention plan",
        "retention report",
        "retention run",
        "hold list",
    ),
    *("agreement list", "rollout status", "rollout explain {study}", "user list"),
    *("token list", "models list", "export-findings {uid}", "keys rotate", "keys rotate --lookup"),
    *("backup create {backups}", "audit export --out {backups}/audit.json"),
)


def printed(node: NodeProcess, uid: str, study_id: str) -> dict[str, str]:
    """Run every command on what the node left; give what it printed, and its exported files."""
    config, backups = node.write_config(), node.folder / "backups"
    backups.mkdir()
    runner, said = CliRunner(), {}
    for command in COMMANDS:
        words = command.format(study=study_id, uid=uid, backups=backups).split()
        done = runner.invoke(cli, [*words, "--config", str(config)])
        assert done.exit_code in ALLOWED.get(words[0], (0,)), f"{command}: {done.output[-800:]}"
        said[f"bitewing {command}"] = done.output
    for path in backups.rglob("*.json"):
        said[f"file {path.name}"] = path.read_text()
    assert len([name for name in said if name.startswith("file")]) >= 2
    return said


#: A check warns of what a trial is not: this many disks, backups and certificates are missing.
ALLOWED = {"check": (0, 1, 2)}


def patients_of(node: NodeProcess) -> set[str]:
    """Every name, birth date and telephone number of the sandbox's practice."""
    said: set[str] = set()
    for row in node.sandbox.rows("patients"):
        for key in ("LName", "FName"):
            said.add(str(row[key]))
        born = str(row["Birthdate"])[:10]
        said |= {born, born.replace("-", "")}
        for key in ("Email", "WirelessPhone", "HmPhone", "SSN"):
            said.add(str(row.get(key) or ""))
    return {each for each in said if len(each) > 3 and not each.startswith("0001")}


def secrets_of(config: Config, node: NodeProcess) -> set[str]:
    found = {PASSWORD, LINK_KEY, WEBHOOK_SECRET}
    for section in Config.model_fields:
        values = getattr(config, section)
        found |= {getattr(values, key).get_secret_value() for key in secret_names(type(values))}
    for lab in config.labs.partners:
        found |= {getattr(lab, key).get_secret_value() for key in secret_names(type(lab))}
    found.add((node.folder / "data" / "engine.key").read_bytes().hex())
    found.add((node.folder / "data.key").read_text().strip())
    return {each for each in found if len(each) >= 8}


def in_bucket(bucket: Minio) -> list[str]:
    """Give the name and what is said besides of everything in the bucket."""
    return [
        f"{each.object_name} {bucket.stat_object(BUCKET, str(each.object_name)).metadata}"
        for each in bucket.list_objects(BUCKET, recursive=True)
    ]


def test_no_name_and_no_secret_is_said_anywhere(
    node: NodeProcess, subscriber: HTTPServer, swift: Swift, bucket: Minio
) -> None:
    crown = {row["ProcCode"]: row["CodeNum"] for row in node.sandbox.rows("procedurecodes")}[
        "D2740"
    ]
    node.sandbox.fault("status", count=2, methods=("POST",), path="/procnotes")
    step = node.send("bitewing-1")
    send_wrong(node, node.folder / "wrong")
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 150, "analysis")
    (row,) = node.rows(
        sa.select(tables.study.c.id).where(
            tables.study.c.study_instance_uid == step.study_instance_uid
        )
    )
    dentist = node.sign_in()
    dentist.decide_everything(row.id)
    dentist.sign(row.id)
    patient_key = sample_study("bitewing-1").patient.id
    today = str(step.start_date) if hasattr(step, "start_date") else ""
    node.sandbox.add(
        "procedurelogs",
        PatNum=patient_key,
        ProcStatus="TP",
        CodeNum=crown,
        ToothNum="30",
        ProvNum=1,
        ProcFee="1450.00",
        **({"ProcDate": today, "DateTP": today} if today.count("-") == 2 else {}),
    )
    answered = wrongs(node, row.id)

    asked_payer = (
        sa.select(tables.case_step.c.name)
        .join(tables.workflow_case, tables.workflow_case.c.id == tables.case_step.c.case_id)
        .where(tables.workflow_case.c.workflow == "preauthorisation")
    )

    def is_charted() -> bool:
        query = sa.select(tables.pms_command.c.state).where(tables.pms_command.c.study_id == row.id)
        states = [each.state for each in node.rows(query)]
        return bool(states) and set(states) <= {"done", "declined"}

    until(is_charted, 120, "the chart")
    until(
        lambda: node.count(
            tables.workflow_case, tables.workflow_case.c.workflow == "preauthorisation"
        ),
        90,
        "a pre-authorisation",
    )
    until(lambda: node.rows(asked_payer), 90, "a question to the payer")
    approve_all(node, dentist)
    until(lambda: len(subscriber.RequestHandlerClass.seen) >= 4, 90, "the webhooks")
    until(lambda: node.count(tables.fleet_report), 60, "a report to the fleet")
    said = {
        **seen_by_the_office(node, row.id),
        "metrics": httpx2.get(f"{node.url}/metrics", timeout=30).text,
        "health": httpx2.get(f"{node.url}/healthz", timeout=30).text,
        "answers": "\n".join(answered),
        "webhooks": "\n".join(subscriber.RequestHandlerClass.seen),
        "audit": str(node.rows(sa.select(tables.audit.c.subject, tables.audit.c.detail))),
        "events": str(node.rows(sa.select(tables.event.c.data, tables.event.c.key))),
        "case errors": str(node.rows(sa.select(tables.workflow_case.c.error))),
        "fleet reports": str(node.rows(sa.select(tables.fleet_report.c.report))),
        "command errors": str(node.rows(sa.select(tables.pms_command.c.error))),
    }
    images = node.count(tables.instance)
    until(lambda: len(in_bucket(bucket)) >= images, 60, "the images in the bucket")
    said["bucket"] = "\n".join(in_bucket(bucket))
    said["what the bucket was asked"] = (swift.folder / "proxy.log").read_text()
    assert node.stop() == 0
    said["log"] = node.log.read_text()
    said |= printed(node, step.study_instance_uid, row.id)
    assert "started" in said["log"]
    assert answered

    names = patients_of(node) | set(STRANGE)
    assert len(names) > 20
    config = read_config(node.write_config(), environment={})
    for place, text in said.items():
        low = text.casefold()
        ours = OUR_WORDS if place.startswith(("/", "bitewing ", "file ")) else set()
        for word in names - ours:
            found = re.search(rf"(?<![a-z0-9]){re.escape(word.casefold())}(?![a-z0-9])", low)
            assert found is None, f"{place}: {text[max(0, found.start() - 150) : found.end() + 50]}"
        for secret in secrets_of(config, node):
            assert secret not in text, f"a secret stands in {place}"
