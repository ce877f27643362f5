"""Documents that the office's system fetches from an SFTP server, or puts there.

The vendor's observed limits are kept: the port is the office's own (22 in the field) and never part
of the address; a download's address is a folder, and the answer's Location is not a URL.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import paramiko

from pms_writeback.sandbox.documents import file_document
from pms_writeback.sandbox.rules import created, refuse_deleted, refuse_missing
from pms_writeback.sandbox.store import Chart
from pms_writeback.sandbox.wire import Answer, Call, Refusal


def sftp_writes(port: int) -> Mapping[str, Callable[[Chart, Call], Answer]]:
    """Give the operations of an office that reaches SFTP servers on `port`."""

    def upload(chart: Chart, call: Call) -> Answer:
        return _upload(chart, call, port)

    def download(chart: Chart, call: Call) -> Answer:
        return _download(chart, call, port)

    return {"POST /documents/UploadSftp": upload, "POST /documents/DownloadSftp": download}


def _upload(chart: Chart, call: Call, port: int) -> Answer:
    """Fetch a file and store it at once: it is a real file, unlike an upload as text."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    _, path = _address(call)
    name = posixpath.basename(path)
    extension = posixpath.splitext(name)[1].lower()
    if not extension:
        raise Refusal(400, "SftpAddress must name a file with an extension.")
    with _connected(call, port) as sftp:
        try:
            with sftp.open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            raise Refusal(404, "File not found on the SFTP server.") from None
    row = file_document(chart, call, extension, content, name)
    return created(chart, call, row)


def _download(chart: Chart, call: Call, port: int) -> Answer:
    """Put a document's file into the folder that the address names."""
    row = chart.get("documents", call.number("DocNum"))
    if row is None:
        raise Refusal(404, "Document not found")
    found = chart.file(int(row["DocNum"]))
    if found is None or row["FileName"] in ("", "x", "xx"):
        raise Refusal(404, "File not found.")  # nobody has opened it in the program yet
    host, folder = _address(call)
    path = posixpath.join(folder, str(row["FileName"]))
    with _connected(call, port) as sftp:
        sftp.putfo(io.BytesIO(found[1]), path)
    return Answer(201, headers=(("location", f"{host}/{path}"),))


def _address(call: Call) -> tuple[str, str]:
    host, _, path = call.text("SftpAddress").partition("/")
    if not host or ":" in host or not path:
        raise Refusal(400, "SftpAddress is invalid.")
    return host, path


@contextmanager
def _connected(call: Call, port: int) -> Iterator[paramiko.SFTPClient]:
    host, _ = _address(call)
    transport = None
    try:
        transport = paramiko.Transport((host, port))
        transport.connect(username=call.text("SftpUsername"), password=call.text("SftpPassword"))
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        yield sftp
    except (paramiko.SSHException, OSError, EOFError):
        raise Refusal(400, "Could not connect to the SFTP server.") from None
    finally:
        if transport is not None:
            transport.close()
