"""The DICOM listener and real senders: DCMTK's echoscu and storescu, and pynetdicom."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.presentation import build_context

from node.db.tables import event, instance, instance_duplicate, study
from node.dicom.scp import storage_classes, transfer_syntaxes
from node.errors import ConfigError
from tests.protocol.conftest import IO, data_set_of, make_film, tool, write

pytestmark = pytest.mark.protocol

#: For what must hold on the fast path and on pynetdicom's; the rest runs as installed.
on_both_paths = pytest.mark.parametrize(
    "start", [True, False], ids=["fast", "pynetdicom"], indirect=True
)


@pytest.fixture
def start(start, request):
    return functools.partial(start, fast_store=getattr(request, "param", True))


def test_echoscu_is_answered(start):
    node = start()
    subprocess.run([tool("echoscu"), "127.0.0.1", str(node.port)], check=True, timeout=90)


@on_both_paths
def test_storescu_is_kept_byte_for_byte(start, tmp_path):
    node = start()
    sent = write(make_film(), tmp_path / "film.dcm")
    done = node.storescu(sent)
    assert "Received Store Response (Success)" in done.stdout + done.stderr
    (path,) = node.files()
    assert data_set_of(path) == data_set_of(sent)
    (image,) = node.rows(instance)
    assert image.sha256 == hashlib.sha256(data_set_of(sent)).hexdigest()
    assert image.sender_ae_title == "STORESCU"


@on_both_paths
def test_dcmtk_names_a_duplicate_in_its_answer(start, tmp_path):
    node = start()
    ds = make_film()
    first = write(ds, tmp_path / "first.dcm")
    ds.ImageComments = "edited afterwards"
    second = write(ds, tmp_path / "second.dcm")
    assert "(Success)" in node.storescu(first).stderr + node.storescu(first).stdout
    done = node.storescu(second)
    text = done.stdout + done.stderr
    assert "Warning: DataSetDoesNotMatchSOPClass" in text
    assert len(node.rows(instance)) == len(node.rows(instance_duplicate)) == 1
    kinds = [row.kind for row in node.rows(event)]
    assert kinds == ["image.stored", "image.duplicate_kept"]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_pynetdicom_sends_every_syntax_as_it_is(start, tmp_path, syntax):
    node = start()
    ds = make_film()
    if syntax.is_compressed and not syntax.is_deflated:
        ds.compress(syntax)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds["PixelData"].VR = "OW"
    ds.file_meta.TransferSyntaxUID = syntax
    sent = write(ds, tmp_path / "film.dcm")
    entity = AE(ae_title="SENSOR")
    entity.requested_contexts = [build_context(IO, syntax)]
    assoc = entity.associate("127.0.0.1", node.port)
    assert assoc.is_established
    status = assoc.send_c_store(dcmread(sent))
    assoc.release()
    assert status.Status == 0x0000
    (image,) = node.rows(instance)
    assert image.transfer_syntax_uid == syntax
    assert image.rows == 200
    from node.dicom.pixels import decode

    assert decode(node.files()[0]).stored.shape == (200, 100)


@pytest.mark.parametrize(
    ("program", "options", "send"),
    [
        ("dcmcjpeg", ["+e1"], "-xs"),
        ("dcmcjpeg", ["+eb"], "-xy"),
        ("dcmcjpeg", ["+ee"], "-xx"),
        ("dcmcjpls", [], "-xt"),
        ("dcmcrle", [], "-xr"),
    ],
)
def test_dcmtk_sends_compressed_films(start, tmp_path, program, options, send):
    node = start()
    pixels = (np.arange(200 * 100, dtype=np.uint16) % 256).astype(np.uint8)
    film = make_film(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels.tobytes())
    plain, packed = write(film, tmp_path / "plain.dcm"), tmp_path / "packed.dcm"
    subprocess.run([tool(program), *options, plain, packed], check=True, capture_output=True)
    node.storescu(send, packed)
    assert data_set_of(node.files()[0]) == data_set_of(packed)


@on_both_paths
def test_every_storage_class_and_syntax_is_accepted(start):
    node = start()
    classes, syntaxes = storage_classes(), transfer_syntaxes()
    assert len(classes) > 190
    assert len(syntaxes) > 60
    accepted = set()
    for at in range(0, len(classes), 120):
        entity = AE()
        entity.requested_contexts = [
            build_context(uid, syntaxes[0]) for uid in classes[at : at + 120]
        ]
        assoc = entity.associate("127.0.0.1", node.port)
        accepted |= {str(context.abstract_syntax) for context in assoc.accepted_contexts}
        assoc.release()
    assert accepted == set(classes)
    entity = AE()
    entity.requested_contexts = [build_context(IO, syntax) for syntax in syntaxes]
    assoc = entity.associate("127.0.0.1", node.port)
    assert {str(c.transfer_syntax[0]) for c in assoc.accepted_contexts} == set(syntaxes)
    assoc.release()


def test_a_retired_class_is_stored(start):
    node = start()
    retired = "1.2.840.10008.5.1.4.1.1.8"  # Standalone Overlay
    entity = AE()
    entity.requested_contexts = [build_context(retired, ExplicitVRLittleEndian)]
    assoc = entity.associate("127.0.0.1", node.port)
    status = assoc.send_c_store(make_film(SOPClassUID=retired))
    assoc.release()
    assert status.Status == 0x0000


def test_of_several_syntaxes_the_uncompressed_is_chosen(start):
    node = start()
    entity = AE()
    entity.add_requested_context(IO, [JPEG2000Lossless, ImplicitVRLittleEndian])
    assoc = entity.associate("127.0.0.1", node.port)
    assert assoc.accepted_contexts[0].transfer_syntax == [ImplicitVRLittleEndian]
    assoc.release()


@on_both_paths
def test_four_senders_at_once(start, tmp_path):
    node = start()
    uid = generate_uid()
    groups = [
        [write(make_film(StudyInstanceUID=uid), tmp_path / f"{a}{b}.dcm") for b in range(5)]
        for a in range(4)
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda group: node.storescu(*group), groups))
    assert len(node.rows(instance)) == 20
    assert len(node.rows(study)) == 1


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this machine does not allow mounts")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def send(port: int, *films: Dataset) -> list[int]:
    entity = AE(ae_title="SENSOR")
    entity.requested_contexts = [build_context(IO, ExplicitVRLittleEndian)]
    assoc = entity.associate("127.0.0.1", port)
    assert assoc.is_established
    found = [int(assoc.send_c_store(ds).Status) for ds in films]
    assoc.release()
    return found


@on_both_paths
def test_a_full_disk_answers_a700_and_leaves_nothing(start, tiny_disk):
    node = start(folder=tiny_disk / "images")
    films = [
        make_film(Rows=400, Columns=500, PixelData=bytes(400_000)) for _ in range(4)
    ]  # 1 MB takes two
    statuses = send(node.port, *films)
    assert statuses == [0x0000, 0x0000, 0xA700, 0xA700]
    assert len(node.files()) == len(node.rows(instance)) == 2
    for path in node.files()[:1]:
        path.unlink()  # the operator makes room
    assert send(node.port, films[2]) == [0x0000]


@on_both_paths
def test_the_watermark_answers_a700(start):
    free_mb = shutil.disk_usage("/").free // 1_000_000
    node = start(min_free_mb=free_mb * 10)
    assert send(node.port, make_film()) == [0xA700]
    assert node.files() == node.rows(study) == []


@on_both_paths
def test_a_locked_database_answers_a700_and_leaves_nothing(start):
    node = start()
    sa.event.listen(node.db, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=100"))
    node.db.dispose()
    holder = sqlite3.connect(node.db.url.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    film = make_film()
    try:
        assert send(node.port, film) == [0xA700]
        assert node.files() == []
    finally:
        holder.rollback()
        holder.close()
    assert send(node.port, film) == [0x0000]


@on_both_paths
def test_nothing_of_a_patient_is_logged(start, caplog):
    caplog.set_level(logging.DEBUG)
    node = start()
    film = make_film()
    send(node.port, film)
    send(node.port, make_film(SOPInstanceUID=film.SOPInstanceUID))
    assert "Doe" not in caplog.text
    assert "19800102" not in caplog.text


@on_both_paths
def test_the_called_title_can_be_required(start):
    node = start(require_called_aet=True)
    entity = AE()
    entity.requested_contexts = [build_context(IO, ExplicitVRLittleEndian)]
    refused = entity.associate("127.0.0.1", node.port, ae_title="OTHER")
    assert refused.is_rejected
    assoc = entity.associate("127.0.0.1", node.port, ae_title="BITEWING")
    assert assoc.is_established
    assoc.release()


@on_both_paths
def test_associations_beyond_the_limit_are_rejected_and_the_rest_served(start):
    node = start(max_associations=2)
    entity = AE()
    entity.requested_contexts = [build_context(IO, ExplicitVRLittleEndian)]
    held = [entity.associate("127.0.0.1", node.port) for _ in range(2)]
    assert entity.associate("127.0.0.1", node.port).is_rejected
    assert all(assoc.is_established for assoc in held)
    for assoc in held:
        assoc.release()
    assert wait_for(lambda: send_quietly(node.port))


def send_quietly(port: int) -> bool:
    try:
        return send(port, make_film()) == [0x0000]
    except AssertionError:
        return False


def wait_for(condition: Callable[[], bool], deadline_s: float = 60.0) -> bool:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x01\0\xff\xff\xff\xff" + b"x" * 100,  # a PDU of 4 GB
        b"\x01\0\0\0\0\x44" + b"\0" * 20,  # half an association request
        b"\x04\0\0\0\0\x06\0\0\0\2\1\3",  # data before any association
    ],
)
def test_noise_on_the_port_harms_nobody(start, noise):
    node = start()
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as peer:
        if noise:
            peer.sendall(noise)
        assert send(node.port, make_film()) == [0x0000]  # others are served meanwhile
    assert send(node.port, make_film()) == [0x0000]


@on_both_paths
def test_an_abort_after_success_keeps_the_image(start):
    node = start()
    entity = AE()
    entity.requested_contexts = [build_context(IO, ExplicitVRLittleEndian)]
    assoc = entity.associate("127.0.0.1", node.port)
    assert assoc.send_c_store(make_film()).Status == 0x0000
    assoc.abort()
    assert len(node.files()) == len(node.rows(instance)) == 1


@on_both_paths
def test_a_connection_that_breaks_mid_image_leaves_nothing(start, tmp_path):
    node = start()
    film = make_film(Rows=2000, Columns=2000, PixelData=bytes(8_000_000))
    path = write(film, tmp_path / "film.dcm")

    class Relay(threading.Thread):
        """Pass a sender's bytes on until one megabyte, then hang up."""

        def __init__(self) -> None:
            super().__init__(daemon=True)
            self.listening = socket.create_server(("127.0.0.1", 0))
            self.port = self.listening.getsockname()[1]

        def run(self) -> None:
            sender, _ = self.listening.accept()
            receiver = socket.create_connection(("127.0.0.1", node.port))

            def back() -> None:
                with contextlib.suppress(OSError):  # until the other thread hangs up
                    while data := receiver.recv(65536):
                        sender.sendall(data)

            threading.Thread(target=back, daemon=True).start()
            passed = 0
            while passed < 1_000_000 and (data := sender.recv(65536)):
                receiver.sendall(data)
                passed += len(data)
            for end in (sender, receiver):
                end.shutdown(socket.SHUT_RDWR)
                end.close()

    relay = Relay()
    relay.start()
    command = [tool("storescu"), "127.0.0.1", str(relay.port), str(path)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0
    relay.join(60)
    assert send(node.port, make_film()) == [0x0000]
    assert len(node.files()) == len(node.rows(instance)) == 1


def test_a_taken_port_is_a_configuration_error(start):
    node = start()
    with pytest.raises(ConfigError, match=str(node.port)):
        start(port=node.port)


@on_both_paths
def test_stopping_ends_open_associations_and_frees_the_port(start):
    node = start()
    entity = AE()
    entity.requested_contexts = [build_context(IO, ExplicitVRLittleEndian)]
    assoc = entity.associate("127.0.0.1", node.port)
    node.listener.stop()
    assert wait_for(lambda: assoc.is_aborted)
    start(port=node.port)


@on_both_paths
def test_an_idle_association_costs_next_to_nothing(start):
    node = start()
    entity = AE()
    entity.requested_contexts = [build_context(IO, ExplicitVRLittleEndian)]
    others = set(threading.enumerate())
    peers = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(8)]
    assert wait_for(lambda: len(set(threading.enumerate()) - others) >= 8)
    before = time.process_time()
    threading.Event().wait(2.0)
    spent = time.process_time() - before
    for peer in peers:
        peer.close()
    assert spent < 0.1
