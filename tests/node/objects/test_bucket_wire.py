"""A real S3 service takes and gives what it was given; a bad line loses nothing and tells why."""

from __future__ import annotations

import hashlib
import io
import sys

import pytest

from node.domain.destinations import Reach
from node.errors import ConfigError, InvalidInput, NotFound, Retryable
from node.objects.bucket import Bucket
from node.objects.opening import open_bucket

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def database_url() -> str:  # nothing here looks at a database
    return ""


@pytest.fixture
def bucket(configured) -> Bucket:
    return open_bucket(configured())


def put(bucket: Bucket, name: str = "main/ab/abcd.dcm", data: bytes = DATA) -> None:
    bucket.put(name, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def test_an_object_goes_there_and_comes_back(bucket):
    name, back = "main/ab/abcd.dcm", io.BytesIO()
    assert not bucket.has(name, len(DATA), SHA256)
    put(bucket)
    put(bucket)  # once more leaves it once
    assert bucket.has(name, len(DATA), SHA256)
    assert not bucket.has(name, len(DATA) + 1, SHA256)
    assert not bucket.has(name, len(DATA), "0" * 64)
    assert bucket.fetch(name, back) == SHA256
    assert back.getvalue() == DATA
    bucket.remove(name)
    bucket.remove(name)  # it is gone already
    with pytest.raises(NotFound):
        bucket.fetch(name, io.BytesIO())
    bucket.try_out()


def test_a_large_object_goes_up_in_parts(bucket, monkeypatch):
    monkeypatch.setattr(Bucket, "part_bytes", 5 << 20)
    data = DATA * 11
    assert len(data) > 2 * Bucket.part_bytes
    put(bucket, data=data)
    back = io.BytesIO()
    assert bucket.fetch("main/ab/abcd.dcm", back) == hashlib.sha256(data).hexdigest()
    assert back.getvalue() == data


@pytest.mark.parametrize(
    ("fault", "family", "words"),
    [
        ("drop-upload", Retryable, "away"),
        ("lose-answer", Retryable, "away"),
        ("slow-down", Retryable, "SlowDown"),
        ("away", Retryable, "away"),
        ("forbid", ConfigError, "AccessDenied"),
        ("elsewhere", Retryable, "TemporaryRedirect"),
    ],
)
def test_what_fails_is_told_and_the_next_try_works(bucket, line, fault, family, words):
    line.fault = fault
    with pytest.raises(family, match=words) as told:
        put(bucket)
    assert "abcd" not in str(told.value)
    line.fault = ""
    put(bucket)
    assert bucket.has("main/ab/abcd.dcm", len(DATA), SHA256)


def test_a_redirect_is_not_followed(bucket, line):
    line.fault = "elsewhere"
    with pytest.raises(Retryable):
        bucket.fetch("main/ab/abcd.dcm", io.BytesIO())
    assert line.requests == ["GET"]


def test_an_answer_that_is_cut_is_no_object(bucket, line):
    put(bucket)
    line.fault = "cut"
    with pytest.raises(Retryable, match="away"):
        bucket.fetch("main/ab/abcd.dcm", io.BytesIO())
    line.fault = "wrong-bytes"
    assert bucket.fetch("main/ab/abcd.dcm", io.BytesIO()) != SHA256


def test_a_file_with_other_bytes_than_were_written_down_is_not_taken(bucket):
    with pytest.raises(InvalidInput, match="other bytes"):
        bucket.put("main/ab/abcd.dcm", io.BytesIO(DATA), len(DATA), "0" * 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bucket": "no-such-bucket"}, "NoSuchBucket"),
        ({"secret_key": "another"}, "SignatureDoesNotMatch"),
        ({"access_key": "test:nobody"}, "AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch"),
    ],
)
def test_a_wrong_setting_is_an_operators_matter(configured, changes, words):
    with pytest.raises(ConfigError, match=words):
        open_bucket(configured(**changes)).try_out()


def test_a_host_inside_the_network_is_refused_unless_it_is_named(configured):
    section = configured(endpoint="https://films.example").objects
    for number in ("10.1.2.3", "169.254.169.254", "127.0.0.1"):
        bucket = Bucket(section, Reach("objects", takes_near=True), lambda *_, n=number: [n])
        with pytest.raises(ConfigError, match="private_networks"):
            put(bucket)


def test_the_extra_that_is_missing_is_named(configured, monkeypatch):
    monkeypatch.setitem(sys.modules, "minio", None)
    monkeypatch.delitem(sys.modules, "node.objects.bucket")
    with pytest.raises(ConfigError, match=r"bitewing\[objects\]"):
        open_bucket(configured())


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "http://films.example"},
        {"endpoint": "https://films.example/path"},
        {"bucket": ""},
        {"secret_key": ""},
        {"prefix": "no-slash"},
    ],
)
def test_a_setting_that_cannot_be_is_refused(configured, changes):
    with pytest.raises(ConfigError, match="objects"):
        configured(**changes)
