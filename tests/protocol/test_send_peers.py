"""Sending to real receivers: DCMTK storescp, and peers that refuse or go away."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    generate_uid,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt

from node.dicom.peers import Peer, parse_peer
from node.dicom.send import Sent, send_object, send_paths
from node.errors import InvalidInput, Rejected, Retryable

pytestmark = pytest.mark.protocol

IO_IMAGE = "1.2.840.10008.5.1.4.1.1.1.3"


def program(name: str, *known: str) -> str:
    # pynetdicom installs programs of the same name into the environment: DCMTK's are asked for
    found = next((path for path in known if Path(path).exists()), None) or shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.02)


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], port: int, **options):
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        wait_until(lambda: is_open(port) or process.poll() is not None)
        assert process.poll() is None, f"{command[0]} ended at once"
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def storescp(tmp_path):
    """DCMTK's receiver, keeping the bytes as they come."""
    folder = tmp_path / "received"
    folder.mkdir()
    port = free_port()
    command = [program("storescp", "/usr/bin/storescp"), "+B", "+xa", "-od", str(folder)]
    with running([*command, "-aet", "STORESCP", str(port)], port):
        yield Peer("STORESCP", "127.0.0.1", port), folder


@contextlib.contextmanager
def answering(handler, **options):
    """A receiver that answers as `handler` says."""
    ae = AE(ae_title="PEER")
    ae.supported_contexts = AllStoragePresentationContexts
    for name, value in options.items():
        setattr(ae, name, value)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handler)]
    )
    try:
        yield Peer("PEER", "127.0.0.1", server.socket.getsockname()[1])
    finally:
        server.shutdown()


def image(path: Path, syntax=ExplicitVRLittleEndian, sop_class=IO_IMAGE) -> bytes:
    """Write a small object and return its data set's bytes."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2.3"
    ds.PatientID = "1"
    ds.Modality = "IO"
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return data_set_of(path)


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEGBaseline8Bit,
        JPEGLSLossless,
    ],
    ids=lambda uid: uid.name,
)
def test_storescp_receives_the_bytes_as_they_are(syntax, storescp, tmp_path):
    peer, folder = storescp
    expected = image(tmp_path / "out" / "a.dcm", syntax)
    send_object(tmp_path / "out" / "a.dcm", peer, calling_ae="BITEWING")
    (received,) = folder.iterdir()
    assert data_set_of(received) == expected
    assert dcmread(received).file_meta.TransferSyntaxUID == syntax


def test_a_folder_is_walked_and_what_is_no_object_is_skipped_with_a_reason(storescp, tmp_path):
    peer, folder = storescp
    out = tmp_path / "out"
    image(out / "b" / "1.dcm")
    image(out / "a" / "2")
    (out / "notes.txt").write_text("A patient's notes")
    (out / "empty.dcm").write_bytes(b"")
    (out / "bare.dcm").write_bytes(bytes(128) + b"DICM")
    image(out / "DICOMDIR", sop_class="1.2.840.10008.1.3.10")
    steps = []
    report = send_paths(
        [out, tmp_path / "missing"],
        peer,
        calling_ae="BITEWING",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert [path.name for path in report.sent] == ["2", "1.dcm"]
    assert report.failed == ()
    reasons = {path.name: reason for path, reason in report.skipped}
    assert set(reasons) == {"notes.txt", "empty.dcm", "bare.dcm", "DICOMDIR", "missing"}
    assert reasons["notes.txt"] == "not a DICOM file"
    assert "index" in reasons["DICOMDIR"]
    assert reasons["missing"] == "there is no such file"
    assert steps[-1] == (7, 7)
    assert steps == sorted(steps)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("kept", ["nothing", "meta"])
def test_a_loose_file_without_preamble_is_sent_as_it_is(syntax, kept, storescp, tmp_path):
    peer, folder = storescp
    path = tmp_path / "whole.dcm"
    expected = image(path, syntax)
    loose = tmp_path / "loose"
    loose.write_bytes(expected if kept == "nothing" else path.read_bytes()[132:])
    send_object(loose, peer, calling_ae="BITEWING")
    (received,) = folder.iterdir()
    assert data_set_of(received) == expected


def test_meta_information_that_disagrees_with_the_data_set_is_not_believed(storescp, tmp_path):
    peer, folder = storescp
    path = tmp_path / "a.dcm"
    expected = image(path)
    ds = dcmread(path)
    uid = str(ds.SOPInstanceUID)
    path.write_bytes(path.read_bytes().replace(uid.encode(), b"9" * len(uid), 1))
    send_object(path, peer, calling_ae="BITEWING")
    (received,) = folder.iterdir()
    assert dcmread(received).file_meta.MediaStorageSOPInstanceUID == uid
    assert data_set_of(received) == expected


def test_the_file_itself_is_never_changed(storescp, tmp_path):
    peer, _ = storescp
    path = tmp_path / "a.dcm"
    image(path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    send_object(path, peer, calling_ae="BITEWING")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_more_kinds_than_an_association_can_propose_are_all_sent(tmp_path):
    classes = [context.abstract_syntax for context in AllStoragePresentationContexts][:70]
    paths = []
    for number, sop_class in enumerate(classes):
        for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
            path = tmp_path / f"{number}-{syntax.is_implicit_VR}"
            image(path, syntax, sop_class)
            paths.append(path)
    received, associations = [], set()

    def store(event):
        received.append(event.request.AffectedSOPInstanceUID)
        associations.add(id(event.assoc))
        return 0x0000

    with answering(store) as peer:
        report = send_paths(paths, peer, calling_ae="BITEWING")
    assert len(report.sent) == len(paths) == 140
    assert len(set(received)) == 140
    assert len(associations) >= 2


@pytest.mark.parametrize("status", [0xA700, 0xA7FF])
def test_a_peer_out_of_resources_is_tried_later(status, tmp_path):
    image(tmp_path / "a.dcm")
    with (
        answering(lambda event: status) as peer,
        pytest.raises(Retryable, match=f"{status:04X}"),
    ):
        send_object(tmp_path / "a.dcm", peer, calling_ae="BITEWING")


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0x0110])
def test_a_refused_object_needs_a_person(status, tmp_path):
    image(tmp_path / "a.dcm")
    with (
        answering(lambda event: status) as peer,
        pytest.raises(Rejected, match=f"{status:04X}"),
    ):
        send_object(tmp_path / "a.dcm", peer, calling_ae="BITEWING")


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0111])
def test_a_warning_means_the_peer_has_it(status, tmp_path):
    image(tmp_path / "a.dcm")
    with answering(lambda event: status) as peer:
        report = send_paths([tmp_path / "a.dcm"], peer, calling_ae="BITEWING")
    (outcome,) = report.outcomes
    assert (outcome.sent, outcome.status) == (Sent.WARNED, status)
    assert report.sent == (tmp_path / "a.dcm",)


def test_one_refused_file_does_not_stop_the_others(tmp_path):
    for name in "abc":
        image(tmp_path / name)
    bad = str(dcmread(tmp_path / "b").SOPInstanceUID)
    with answering(
        lambda event: 0xC000 if event.request.AffectedSOPInstanceUID == bad else 0
    ) as peer:
        report = send_paths([tmp_path], peer, calling_ae="BITEWING")
    assert [path.name for path in report.sent] == ["a", "c"]
    ((path, reason),) = report.failed
    assert path.name == "b"
    assert "C000" in reason


def test_a_kind_the_peer_does_not_take_is_refused_and_the_rest_is_sent(tmp_path):
    image(tmp_path / "a.dcm", JPEGBaseline8Bit)
    image(tmp_path / "b.dcm", ExplicitVRLittleEndian)
    with answering(lambda event: 0) as peer:  # takes uncompressed objects only
        report = send_paths([tmp_path], peer, calling_ae="BITEWING")
        assert [path.name for path in report.sent] == ["b.dcm"]
        ((_, reason),) = report.failed
        assert "JPEG Baseline" in reason
        with pytest.raises(Rejected, match="does not take"):
            send_object(tmp_path / "a.dcm", peer, calling_ae="BITEWING")


def test_a_peer_that_is_away_is_tried_later(tmp_path):
    image(tmp_path / "a.dcm")
    with pytest.raises(Retryable, match="cannot be reached"):
        send_object(
            tmp_path / "a.dcm", Peer("AWAY", "127.0.0.1", free_port()), calling_ae="BITEWING"
        )


def test_a_host_nobody_knows_is_tried_later(tmp_path):
    image(tmp_path / "a.dcm")
    with pytest.raises(Retryable, match="cannot be reached"):
        send_object(tmp_path / "a.dcm", Peer("AWAY", "nobody.invalid", 104), calling_ae="BITEWING")


def test_a_wrong_called_title_needs_a_person(tmp_path):
    image(tmp_path / "a.dcm")
    with answering(lambda event: 0, require_called_aet=True) as peer:
        wrong = Peer("WRONG", peer.host, peer.port)
        with pytest.raises(Rejected, match="refuses an association"):
            send_object(tmp_path / "a.dcm", wrong, calling_ae="BITEWING")


def test_a_peer_with_no_free_association_is_tried_later(tmp_path):
    image(tmp_path / "a.dcm")
    with answering(lambda event: 0, maximum_associations=1) as peer:
        ae = AE(ae_title="OTHER")
        ae.requested_contexts = AllStoragePresentationContexts[:1]
        other = ae.associate(peer.host, peer.port)
        assert other.is_established
        try:
            with pytest.raises(Retryable, match="no association now"):
                send_object(tmp_path / "a.dcm", peer, calling_ae="BITEWING")
        finally:
            other.release()


def test_a_connection_lost_on_the_way_is_opened_again(tmp_path):
    for name in "abc":
        image(tmp_path / name)
    aborted = []

    def store(event):
        if not aborted:
            aborted.append(event.request.AffectedSOPInstanceUID)
            event.assoc.abort()
        return 0x0000

    with answering(store) as peer:
        report = send_paths([tmp_path], peer, calling_ae="BITEWING")
    assert len(report.sent) == 3
    assert len(aborted) == 1


def test_an_object_that_kills_the_connection_twice_is_left_and_the_rest_goes_on(tmp_path):
    for name in "abc":
        image(tmp_path / name)
    poison = str(dcmread(tmp_path / "b").SOPInstanceUID)

    def store(event):
        if event.request.AffectedSOPInstanceUID == poison:
            event.assoc.abort()
        return 0x0000

    with answering(store) as peer:
        report = send_paths([tmp_path], peer, calling_ae="BITEWING")
    assert [path.name for path in report.sent] == ["a", "c"]
    assert [path.name for path, _ in report.failed] == ["b"]
    assert report.outcomes[1].sent is Sent.LATER


def test_a_file_that_is_no_object_is_invalid(tmp_path):
    (tmp_path / "a.dcm").write_text("not an image")
    with pytest.raises(InvalidInput, match="not a DICOM file"):
        send_object(tmp_path / "a.dcm", Peer("ANY", "127.0.0.1", 1), calling_ae="BITEWING")


@pytest.mark.parametrize("title", ["", "A" * 17, "A\\B", "É"])
def test_a_calling_title_that_cannot_be_sent_is_invalid(title, tmp_path):
    with pytest.raises(InvalidInput, match="AE title"):
        send_paths([tmp_path], Peer("ANY", "127.0.0.1", 1), calling_ae=title)


def test_nothing_to_send_needs_no_peer(tmp_path):
    report = send_paths([tmp_path], Peer("ANY", "127.0.0.1", 1), calling_ae="BITEWING")
    assert report.outcomes == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PACS@10.0.0.5:104", Peer("PACS", "10.0.0.5", 104)),
        ("MY PACS@pacs.example.org:11112", Peer("MY PACS", "pacs.example.org", 11112)),
        ("A@[::1]:104", Peer("A", "::1", 104)),
    ],
)
def test_a_peer_is_read(text, expected):
    assert parse_peer(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "PACS", "PACS@host", "@host:104", "PACS@:104", "PACS@host:0", "PACS@host:65536",
     "A" * 17 + "@host:104", "PACS@host:port", "P\\A@host:104", " @host:104", "É@host:104"],
)  # fmt: skip
def test_what_is_no_peer_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_peer(text)
