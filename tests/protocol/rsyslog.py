"""A private rsyslogd, the collector of tests."""

from __future__ import annotations

import socket
import subprocess
from contextlib import closing
from pathlib import Path

from tests.protocol.conftest import missing


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with closing(socket.socket(socket.AF_INET, kind)) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Rsyslog:
    """A private rsyslogd that writes each message as one line of a file."""

    def __init__(self, folder: Path, inputs: str) -> None:
        program = Path("/usr/sbin/rsyslogd")
        if not program.exists():
            missing("rsyslog")
        self.file = folder / "messages.log"
        config = folder / "rsyslog.conf"
        config.write_text(
            f'global(workDirectory="{folder}" maxMessageSize="64k" net.enableDNS="off")\n'
            f"{inputs}\n"
            'template(name="all" type="string" string='
            '"%pri%|%timestamp:::date-rfc3339%|%hostname%|%app-name%|%msgid%|'
            '%structured-data%|%msg%\\n")\n'
            f'action(type="omfile" file="{self.file}" template="all" asyncWriting="off")\n'
        )
        self.process = subprocess.Popen(
            [str(program), "-n", "-f", str(config), "-i", str(folder / "rsyslog.pid")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def lines(self) -> list[str]:
        return self.file.read_text("utf-8").splitlines() if self.file.exists() else []

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def plain_tcp(port: int) -> str:
    """Configure one input by TCP."""
    return f'module(load="imtcp")\ninput(type="imtcp" port="{port}" address="127.0.0.1")'
