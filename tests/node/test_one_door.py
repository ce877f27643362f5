"""Every connection of the product is made by the one door, whatever it speaks."""

import ast
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import build_context

from node.config import PeerSection
from node.dicom.peers import Peer, associate, number_of
from node.domain.destinations import PUBLIC_ONLY, Reach
from node.errors import ConfigError, Retryable
from node.outgoing import connect, numbers_of
from node.syslog import Collector, Message, SyslogSender, Transport
from orchestration.messengers.message import Message as Mail
from orchestration.messengers.smtp import SmtpMessenger, SmtpSettings
from pms_writeback.pinned_sftp import PinnedServer

ROOT = Path(__file__).parents[2]
#: A spelling of 127.0.0.1 that every resolver takes and that no rule of names knows.
ASTRAY = "127.1"
ECHO = "1.2.840.10008.1.1"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxn3YQV8Xw4oG1hXq2cKq0b8mFyM4nT5u0a1y9v1o2Z"

#: What connects, by the last word of a call or of a base class.
OPENERS = {
    "create_connection", "open_connection", "create_datagram_endpoint", "connect", "connect_ex",
    "sendto", "Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport", "urlopen",
    "HTTPConnection", "HTTPSConnection", "SMTP", "SMTP_SSL", "LMTP", "SSHClient", "Transport",
    "FTP", "FTP_TLS", "IMAP4", "IMAP4_SSL", "POP3", "ServerProxy", "SysLogHandler",
    "SocketHandler", "SMTPHandler", "HTTPHandler", "AE",
}  # fmt: skip
#: Libraries that connect and that nothing here needs.
FOREIGN = {
    "requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client", "ftplib",
    "imaplib", "poplib", "telnetlib", "xmlrpc", "websockets", "websocket", "boto3", "botocore",
    "asyncssh", "logging.handlers", "pika", "redis",
}  # fmt: skip
#: Who may, and why.
MAY = {
    "node/outgoing.py": "the door itself",
    "node/syslog.py": "by the door's connection; a datagram to the door's number",
    "node/dicom/peers.py": "to the number that the door gives",
    "pms_writeback/pinned_sftp.py": "a session over the door's connection",
    "orchestration/messengers/smtp.py": "a session over the door's connection",
    "node/audit_telling.py": "names a transport",
    "node/dicom/scp.py": "listens; a C-MOVE goes to the number that the door gives",
    "node/objects/door.py": "a pool of the bucket's client over the door's connection",
    "node/open_study.py": "a workstation's program; dials the node",
    "pms_writeback/bridge/link.py": "the bridge; dials the node",
    "pms_writeback/bridge/identity.py": "the bridge; dials the node",
    "pms_writeback/bridge/odbc.py": "the bridge; the driver of the office's own database",
    "pms_writeback/bridge/sqlite_file.py": "opens a file",
}


#: Who may use one of those libraries, and why.
FOREIGN_TO = {
    "node/objects/door.py": "makes urllib3 connect by the door",
    "node/objects/bucket.py": "reads what urllib3 raises; connects by node/objects/door.py",
}


def _opens(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        words: list[ast.expr] = []
        if isinstance(node, ast.Call):
            words = [node.func]
            if _word(node.func) == "connect" and not node.args:
                continue  # of a database's pool
        elif isinstance(node, ast.ClassDef):
            words = node.bases
        if any(_word(word) in OPENERS for word in words):
            return True
        if isinstance(node, ast.Call) and _is_httpx(node.func):
            return True
    return False


def _word(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _is_httpx(call: ast.expr) -> bool:
    verbs = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream"}
    return (
        isinstance(call, ast.Attribute)
        and call.attr in verbs
        and isinstance(call.value, ast.Name)
        and call.value.id == "httpx2"
    )


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _modules() -> Iterator[tuple[str, Path]]:
    for package in ("node", "pms_writeback", "orchestration", "models"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "sandbox" not in name and name != "node/demo.py":  # programs that play others
                yield name, path


def test_every_client_to_the_outside_comes_through_this_door() -> None:
    assert {name for name, path in _modules() if _opens(path)} == set(MAY)


def test_no_other_library_that_connects_is_in_use() -> None:
    for name, path in _modules():
        if name in FOREIGN_TO:
            continue
        found = {
            each for each in _imports(path) if each in FOREIGN or each.split(".")[0] in FOREIGN
        }
        assert not found, name


@pytest.mark.parametrize(
    "text",
    [
        "import socket\nsocket.create_connection(('a', 1))",
        "from smtplib import SMTP\nSMTP('a')",
        "import httpx2\nhttpx2.get('https://a')",
        "import httpx2\nclass Mine(httpx2.HTTPTransport): ...",
        "import socket\nsocket.socket().connect(('a', 1))",
        "from pynetdicom import AE\nAE().associate('a', 1)",
    ],
)
def test_a_new_way_out_is_noticed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new.py"
    path.write_text(text)
    assert _opens(path)


# --- each protocol ---


@contextmanager
def _listener() -> Iterator[tuple[int, list[str]]]:
    """Count who calls; say nothing."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                seen.append("called")
                line.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], seen
        server.shutdown(socket.SHUT_RDWR)
    thread.join(30)


def _mail(port: int) -> None:
    settings = SmtpSettings(ASTRAY, port, "office@dental.example")
    SmtpMessenger(settings).send(Mail("a@b.example", "words", "subject"), "key")


def _sftp(port: int) -> None:
    with PinnedServer(ASTRAY, "user", HOST_KEY, "secret", port=port).session():
        raise AssertionError("a session was opened")


def _syslog(port: int) -> None:
    SyslogSender(Collector(ASTRAY, port, Transport.TCP)).send([Message("words")])


def _datagram(port: int) -> None:
    SyslogSender(Collector(ASTRAY, port, Transport.UDP)).send([Message("words")])


def _dicom(port: int) -> None:
    associate(Peer("PACS", ASTRAY, port), "BITEWING", [build_context(ECHO)])


@pytest.mark.parametrize("send", [_mail, _sftp, _syslog, _datagram, _dicom])
def test_no_protocol_is_led_to_this_machine(send: Callable[[int], None]) -> None:
    with _listener() as (port, seen):
        with pytest.raises((ConfigError, Retryable), match="inside this network or machine"):
            send(port)
        with socket.create_connection(("127.0.0.1", port), 60) as ours:
            assert ours.recv(1) == b""
        assert seen == ["called"]  # by us, a line above


@pytest.mark.parametrize(
    ("declared", "host", "numbers", "given"),
    [
        (None, "pacs", ["192.168.1.9"], "192.168.1.9"),
        (None, "pacs", ["8.8.8.8"], None),  # a name of the office must stay in it
        (None, "192.168.1.9", ["192.168.1.9"], "192.168.1.9"),
        (None, "archive.example", ["8.8.8.8"], "8.8.8.8"),
        (None, "archive.example", ["192.168.1.9"], None),
        (False, "pacs.office.example", ["192.168.1.9"], "192.168.1.9"),
        (False, "pacs.office.example", ["8.8.8.8"], None),  # declared the office's own: it is not
        (False, "8.8.8.8", ["8.8.8.8"], None),
        (False, "100.64.0.7", ["100.64.0.7"], "100.64.0.7"),
        (True, "10.9.0.3", ["10.9.0.3"], "10.9.0.3"),  # the number of a tunnel was meant
        (True, "archive.example", ["10.9.0.3"], None),
        (True, "169.254.169.254", ["169.254.169.254"], None),
        (None, "archive.example", ["2001:4860:4860::8888", "8.8.8.8"], "8.8.8.8"),
    ],
)
def test_a_dicom_peer_is_where_it_was_declared(
    monkeypatch: pytest.MonkeyPatch,
    declared: bool | None,
    host: str,
    numbers: list[str],
    given: str | None,
) -> None:
    answers = [(0, 0, 0, "", (number, 104)) for number in numbers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    peer = PeerSection(name="p", ae_title="PACS", host=host, port=104, external=declared)
    if given is None:
        with pytest.raises(Retryable, match="is not called"):
            number_of(peer)
    else:
        assert number_of(peer) == given


def test_of_several_numbers_the_first_that_answers_is_taken() -> None:
    office = Reach("labs")
    with (
        _listener() as (port, _),
        connect(office, "localhost", port, 30.0, lambda *_: ["127.0.0.99", "127.0.0.1"]) as line,
    ):
        assert line.getpeername() == ("127.0.0.1", port)
    with pytest.raises(ConfigError, match="outside this network"):
        numbers_of(Reach("x", stays_near=True), "pacs", 1, lambda *_: ["8.8.8.8"])
    assert numbers_of(PUBLIC_ONLY, "a.example", 1, lambda *_: ["10.0.0.1", "8.8.8.8"]) == [
        "8.8.8.8"
    ]
