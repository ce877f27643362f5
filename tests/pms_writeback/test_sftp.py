"""Files by SFTP against a real server on loopback: pinned, whole or not at all, never elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from node.errors import ConfigError, InvalidInput, NotFound, Rejected, Retryable
from pms_writeback.sandbox.sftp import sftp_serving
from pms_writeback.sftp import SftpFolder, SftpSettings

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def site(tmp_path):
    with sftp_serving(tmp_path / "sftp") as running:
        yield running


def settings(site, **changes):
    made = SftpSettings(
        host=site.host,
        port=site.port,
        user=site.user,
        password=site.password,
        host_key=site.host_key,
        folder="to-office",
    )
    return replace(made, **changes)


@pytest.fixture
def folder(site):
    return SftpFolder(settings(site))


def test_a_file_arrives_whole_and_again_replaces_it(site, folder):
    assert not folder.exists("BW-1.pdf")
    folder.put("BW-1.pdf", b"%PDF old")
    folder.put("BW-1.pdf", CONTENT)
    assert (site.folder / "to-office" / "BW-1.pdf").read_bytes() == CONTENT
    assert [each.name for each in (site.folder / "to-office").iterdir()] == ["BW-1.pdf"]
    assert folder.exists("BW-1.pdf")
    folder.remove("BW-1.pdf")
    folder.remove("BW-1.pdf")
    assert not folder.exists("BW-1.pdf")


def test_another_servers_key_gets_nothing(site, tmp_path):
    with sftp_serving(tmp_path / "other") as other:
        wrong = SftpFolder(settings(site, host_key=other.host_key))
        with pytest.raises(ConfigError, match="in between"):
            wrong.put("BW-1.pdf", CONTENT)
    other_kind = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFiClAMElvvBWxPLvrCy5sGJtRo9vLvqFF8kEGpbYDCL"
    with pytest.raises(ConfigError, match="in between"):
        SftpFolder(settings(site, host_key=other_kind)).put("BW-1.pdf", CONTENT)
    assert list(site.folder.rglob("*")) == []


def test_a_wrong_password_is_for_an_operator(site):
    with pytest.raises(ConfigError, match="refuses"):
        SftpFolder(settings(site, password="no")).put("BW-1.pdf", CONTENT)


def test_a_full_disk_leaves_nothing_under_the_name(site, folder):
    site.faults.is_full = True
    with pytest.raises(Retryable):
        folder.put("BW-1.pdf", CONTENT)
    assert not (site.folder / "to-office" / "BW-1.pdf").exists()
    site.faults.is_full = False
    folder.put("BW-1.pdf", CONTENT)
    assert folder.exists("BW-1.pdf")


def test_a_line_cut_in_the_middle_leaves_nothing_under_the_name(site, folder):
    site.faults.cut_after, site.faults.cuts = 100_000, 1
    with pytest.raises(Retryable):
        folder.put("BW-1.pdf", CONTENT)
    assert not (site.folder / "to-office" / "BW-1.pdf").exists()
    folder.put("BW-1.pdf", CONTENT)
    stored = (site.folder / "to-office" / "BW-1.pdf").read_bytes()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(CONTENT).digest()


def test_a_server_that_is_away_is_tried_later(site, tmp_path):
    with sftp_serving(tmp_path / "gone") as gone:
        away = SftpFolder(settings(gone))
    with pytest.raises(Retryable):
        away.put("BW-1.pdf", CONTENT)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".hidden", "a b", "x" * 129, "a\0b"])
def test_names_that_lead_elsewhere_are_refused(folder, name):
    with pytest.raises(InvalidInput):
        folder.put(name, CONTENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"folder": "../elsewhere"},
        {"folder": "a//b"},
        {"folder": ""},
        {"host_key": "SHA256:abc"},
        {"host_key": ""},
        {"user": ""},
        {"password": ""},
    ],
)
def test_settings_that_cannot_be_safe_are_refused(site, changes):
    with pytest.raises(ConfigError):
        settings(site, **changes)


def test_a_delivery_is_read_once_and_cleared(site, folder):
    with folder.mailbox() as mailbox:
        place = site.folder / "to-office" / mailbox.name
        assert mailbox.address == f"127.0.0.1/to-office/{mailbox.name}"
        with pytest.raises(NotFound):
            mailbox.read()
        (place / "Document12.jpg").write_bytes(CONTENT)
        assert mailbox.read() == CONTENT
    assert not place.exists()


def test_only_one_regular_file_is_taken(site, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    with folder.mailbox() as mailbox:
        place = site.folder / "to-office" / mailbox.name
        (place / "link.jpg").symlink_to(secret)
        with pytest.raises(NotFound):
            mailbox.read()
        (place / "a.jpg").write_bytes(b"a")
        (place / "b.jpg").write_bytes(b"b")
        with pytest.raises(Rejected, match="more than one"):
            mailbox.read()
    assert not place.exists()
    assert secret.read_bytes() == b"not yours"


def test_the_server_lets_nobody_out_of_its_folder(site, tmp_path):
    (tmp_path / "outside.txt").write_text("outside")
    (site.folder / "way-out").symlink_to(tmp_path)
    with settings(site).server.session() as sftp:
        with pytest.raises(PermissionError):
            sftp.open("way-out/outside.txt", "rb")
        with pytest.raises(FileNotFoundError):
            sftp.open("../outside.txt", "rb")
