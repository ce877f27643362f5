"""The whole web application of a location, put together as the node does, and people to ask it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from node.app import include_routers
from node.config import Config, read_config
from node.db.session import Actor, open_database
from node.db.tables import user_account
from node.dicom.instances import FolderStore
from node.domain.rights import Right
from node.engine import DurableEngine
from node.status import Status
from node.web.accounts import create_user
from node.web.app import create_web
from node.web.auth import COOKIE, Web
from orchestration.orchestra import Orchestra, open_orchestra
from orchestration.workflows import open_workflows

PASSWORD = "correct horse battery"
OFFICE = {
    "kind": "open_dental",
    "base_url": "http://127.0.0.1:1",
    "developer_key": "developer-key",
    "customer_key": "customer-key",
}


@dataclass
class Caller:
    """Somebody or something that asks the application."""

    http: TestClient
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: object = None, **headers: str):
        sent = {**self.headers, **{name.replace("_", "-"): v for name, v in headers.items()}}
        data = None
        if body is not None:
            data, sent["content-type"] = json.dumps(body), "application/json"
        return self.http.request(method, path, content=data, headers=sent, follow_redirects=False)

    def get(self, path: str, **headers: str):
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: object = None, **headers: str):
        return self.ask("POST", path, {} if body is None else body, **headers)


@dataclass
class House:
    """One location's application; people of it are made when first asked for."""

    app: FastAPI
    web: Web
    config: Config
    orchestra: Orchestra
    people: dict[str, str] = field(default_factory=dict)

    @property
    def db(self) -> sa.Engine:
        return self.web.db

    @property
    def actor(self) -> Actor:
        return Actor("test", self.web.location_id)

    def client(self) -> TestClient:
        return TestClient(self.app, raise_server_exceptions=False)

    def user(self, role: str, username: str = "", password: str = PASSWORD) -> str:
        name = username or role
        if name not in self.people:
            self.people[name] = create_user(
                self.db,
                self.actor,
                username=name,
                display_name=f"The {name}",
                role=role,
                password="" if role == "service" else password,
            )
        return self.people[name]

    def person(self, role: str, username: str = "") -> Caller:
        """A browser of somebody of this role, signed in (without the cost of a password)."""
        token, session = self.web.accounts.open(self.user(role, username))
        client = self.client()
        client.cookies.set(COOKIE, token, domain="testserver.local")
        return Caller(client, {"X-CSRF-Token": session.csrf_token})

    def program(self, *rights: Right, role: str = "service", days: int = 1) -> Caller:
        """A program with a token of these rights."""
        _, token = self.web.tokens.issue(self.actor, self.user(role), "a program", rights, days)
        return Caller(self.client(), {"Authorization": f"Bearer {token}"})

    def stranger(self) -> Caller:
        return Caller(self.client())

    def change(self, username: str, **values: object) -> None:
        with self.db.begin() as conn:
            conn.execute(
                user_account.update()
                .where(user_account.c.id == self.people[username])
                .values(**values)
            )

    def rows(self, query: sa.Select) -> Sequence:
        with self.db.connect() as conn:
            return conn.execute(query).all()


OpenHouse = Callable[..., House]


@pytest.fixture
def open_house(sqlite_database: sa.Engine, tmp_path: Path) -> Iterator[OpenHouse]:
    """Put applications together, all on one database."""
    url = sqlite_database.url.render_as_string(hide_password=False)
    closers: list[Callable[[], object]] = []

    def start(location_id: str = "main", **sections: dict[str, object]) -> House:
        values: dict[str, dict[str, object]] = {
            "node": {"location_id": location_id, "data_dir": tmp_path, "mode": "assist"},
            "database": {"url": url},
            "pms": OFFICE,
            "workflows": {"modes": {"preauthorisation": "assist"}},
            **sections,
        }
        config = read_config(None, {}, values)
        db = open_database(url)
        store = FolderStore(tmp_path / "images")
        engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1", location_id)
        engine.connect()
        registry = CollectorRegistry()
        app = create_web(config, db, store, engine, probes=dict, metrics_registry=registry)
        workflows = open_workflows(config, db)
        orchestra = open_orchestra(db, engine, store, config, "test-1", workflows)
        include_routers(app, Status(db, config), orchestra)
        closers.extend([db.dispose, engine.close])
        return House(app, app.state.web, config, orchestra)

    yield start
    for close in reversed(closers):
        close()


@pytest.fixture
def house(open_house: OpenHouse) -> House:
    """One location's application."""
    return open_house()
