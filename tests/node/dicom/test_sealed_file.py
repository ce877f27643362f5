"""Sealed objects: what is written comes back from anywhere in it, or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from node.db.keyring import KeyRing, Purpose, new_key
from node.dicom.instances import FolderStore
from node.dicom.object_file import ObjectFile, chunks_of, file_from_json, file_to_json, size_of
from node.dicom.sealed_file import FRAME_BYTES, HEAD_BYTES, MAGIC
from node.errors import ConfigError, InvalidInput

NAME = "abcd1234.dcm"
KEY = "main/ab/abcd1234.dcm"
STEP = FRAME_BYTES + 16


def a_ring(is_strict: bool = False, location_id: str = "main") -> KeyRing:
    return KeyRing(location_id, [new_key(purpose) for purpose in Purpose], is_strict)


@pytest.fixture
def ring() -> KeyRing:
    return a_ring()


@pytest.fixture
def store(tmp_path: Path, ring: KeyRing) -> FolderStore:
    return FolderStore(tmp_path / "images", ring=ring)


def put(store: FolderStore, content: bytes, name: str = NAME, piece: int = 100_000) -> str:
    def write(file: object) -> None:
        for at in range(0, len(content), piece):
            file.write(content[at : at + piece])

    stored = store.put("main", name, write)
    assert stored.size_bytes == len(content)
    return stored.storage_key


def content_of(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


@pytest.mark.parametrize(
    "size",
    [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES, 3 * FRAME_BYTES + 7],
)
@pytest.mark.parametrize("piece", [65_536, 5 * FRAME_BYTES, 1_000_003])
def test_what_is_written_comes_back(store: FolderStore, size: int, piece: int) -> None:
    content = content_of(size)
    key = put(store, content, piece=piece)
    with store.open(key) as file:
        assert file.read() == content
    assert size_of(store.file(key)) == size
    assert b"".join(chunks_of(store.file(key))) == content
    on_disk = store.path(key).read_bytes()
    assert on_disk.startswith(MAGIC)
    assert size < 64 or content[:64] not in on_disk


def as_the_layout_says(content: bytes, ring: KeyRing) -> bytes:
    """Seal as earlier releases did, from the module's description of a file."""
    salt, key = bytes(range(32)), ring.current(Purpose.DATA)
    head = MAGIC + bytes.fromhex(key.key_id) + FRAME_BYTES.to_bytes(4, "big") + salt + bytes(12)
    cipher = AESGCM(key.derive(f"object {KEY}", salt))
    frames = [content[at : at + FRAME_BYTES] for at in range(0, len(content), FRAME_BYTES)] or [b""]
    for number, frame in enumerate(frames):
        nonce = number.to_bytes(11, "big") + bytes((number == len(frames) - 1,))
        frames[number] = cipher.encrypt(nonce, frame, head)
    return head + b"".join(frames)


@pytest.mark.parametrize("size", [0, 5, FRAME_BYTES, 4 * FRAME_BYTES + 9])
def test_what_earlier_releases_sealed_is_read_and_is_still_written_so(
    store: FolderStore, ring: KeyRing, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = content_of(size)
    expected = as_the_layout_says(content, ring)
    monkeypatch.setattr("os.urandom", lambda count: bytes(range(count)))
    key = put(store, content, piece=131_060)
    assert store.path(key).read_bytes() == expected
    with store.open(key) as file:
        assert file.read() == content


@pytest.fixture(scope="module")
def three_frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectFile, bytes]:
    content = content_of(2 * FRAME_BYTES + 11)
    store = FolderStore(tmp_path_factory.mktemp("ranges"), ring=a_ring())
    return store.file(put(store, content)), content


@given(
    looks=st.lists(
        st.tuples(st.integers(0, 2 * FRAME_BYTES + 20), st.integers(0, FRAME_BYTES + 9)),
        max_size=6,
    )
)
def test_any_range_can_be_read(
    three_frames: tuple[ObjectFile, bytes], looks: list[tuple[int, int]]
) -> None:
    file, content = three_frames
    with file.open("rb") as opened:
        for start, count in looks:
            opened.seek(start)
            assert opened.read(count) == content[start : start + count]
            assert opened.tell() == min(start + count, max(start, len(content)))


@pytest.mark.parametrize(
    "at",
    [
        0,
        8,
        17,
        20,
        40,
        HEAD_BYTES - 1,
        HEAD_BYTES,
        HEAD_BYTES + STEP + 5,
        HEAD_BYTES + 2 * STEP,
        -1,
    ],
)
def test_one_flipped_bit_is_an_error_and_no_bytes(
    store: FolderStore, ring: KeyRing, at: int
) -> None:
    path = store.path(key := put(store, content_of(2 * FRAME_BYTES + 500)))
    sealed = bytearray(path.read_bytes())
    sealed[at] ^= 1
    path.write_bytes(sealed)
    strict_store = FolderStore(path.parents[2], ring=strict(ring))
    with pytest.raises((InvalidInput, ConfigError)):
        strict_store.file(key).read_bytes()


def strict(ring: KeyRing) -> KeyRing:
    return KeyRing("main", [ring.current(purpose) for purpose in Purpose], is_strict=True)


@pytest.mark.parametrize(
    "length",
    [0, 7, HEAD_BYTES, HEAD_BYTES + 15, HEAD_BYTES + STEP, HEAD_BYTES + 2 * STEP, -1],
)
def test_a_file_that_was_cut_off_does_not_open(
    store: FolderStore, ring: KeyRing, length: int
) -> None:
    path = store.path(key := put(store, content_of(2 * FRAME_BYTES + 500)))
    sealed = path.read_bytes()
    path.write_bytes(sealed[:length])
    strict_store = FolderStore(path.parents[2], ring=strict(ring))
    with pytest.raises(InvalidInput):
        strict_store.open(key)


def test_frames_cannot_be_swapped_or_added(store: FolderStore) -> None:
    path = store.path(key := put(store, content_of(3 * FRAME_BYTES)))
    sealed = path.read_bytes()
    frames = [sealed[HEAD_BYTES + n * STEP : HEAD_BYTES + (n + 1) * STEP] for n in range(3)]
    for order in ([1, 0, 2], [0, 1], [0, 1, 2, 2], [0, 2]):
        path.write_bytes(sealed[:HEAD_BYTES] + b"".join(frames[n] for n in order))
        with pytest.raises(InvalidInput, match="cut off or was changed"):
            store.file(key).read_bytes()


def test_a_file_in_the_place_of_another_does_not_open(store: FolderStore) -> None:
    mine, other = put(store, b"film of one"), put(store, b"film of another", "abff9999.dcm")
    store.path(mine).write_bytes(store.path(other).read_bytes())
    with pytest.raises(InvalidInput, match="changed"):
        store.open(mine)


def test_another_location_s_key_is_named(store: FolderStore, tmp_path: Path) -> None:
    key = put(store, b"film")
    stranger = FolderStore(tmp_path / "images", ring=a_ring())
    with pytest.raises(ConfigError, match="sealed with the key"):
        stranger.open(key)


def test_old_plain_files_are_read_until_all_is_sealed(tmp_path: Path, ring: KeyRing) -> None:
    key = put(FolderStore(tmp_path / "images"), b"a film of before")
    with FolderStore(tmp_path / "images", ring=ring).open(key) as file:
        assert file.read() == b"a film of before"
    with pytest.raises(InvalidInput, match="not sealed"):
        FolderStore(tmp_path / "images", ring=strict(ring)).open(key)


def test_another_process_opens_a_file_with_that_file_s_key_alone(store: FolderStore) -> None:
    first, second = put(store, b"film"), put(store, b"film", "abff9999.dcm")
    told = file_to_json(store.file(first))
    assert file_from_json(told).read_bytes() == b"film"
    moved = {**told, "path": str(store.path(second)), "storage_key": second}
    with pytest.raises(InvalidInput):
        file_from_json(moved).read_bytes()


def test_plain_files_are_named_by_their_path(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "images")
    told = file_to_json(store.file(put(store, b"film")))
    assert file_from_json(told).read_bytes() == b"film"


def test_a_data_set_is_read_from_a_sealed_file(store: FolderStore) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    from node.dicom.object_file import read_dataset

    ds = Dataset()
    ds.PatientID = "P-1"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    assert read_dataset(store.file(put(store, buffer.getvalue()))).PatientID == "P-1"
