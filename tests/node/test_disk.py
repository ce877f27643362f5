"""The two watermarks and the reserve, with room measured by the test."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from node.disk import RESERVE, Disk, DiskCollector, Room

MB = 1_000_000


class Measured:
    """A disk whose free room a test sets."""

    def __init__(self, folder: Path) -> None:
        self.mb = 10_000
        self.folder = folder
        self.disk = Disk(folder, 5_000, 64, 4, free=lambda _: self.mb * MB)


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    return Measured(tmp_path)


@pytest.mark.parametrize(
    ("mb", "room", "word"),
    [
        (10_000, Room.PLENTY, "free"),
        (4_999, Room.LOW, "make room soon"),
        (63, Room.REFUSING, "images are refused"),
        (31, Room.LAST, "reserve was let go"),
    ],
)
def test_each_mark_has_its_word(measured: Measured, mb: int, room: Room, word: str) -> None:
    measured.mb = mb
    seen = measured.disk.look()
    assert (seen.room, word in seen.words) == (room, True)


def test_the_reserve_is_made_let_go_and_made_again(measured: Measured, caplog) -> None:
    reserve = measured.folder / RESERVE
    assert measured.disk.keep_reserve().has_reserve
    assert reserve.stat().st_blocks * 512 >= 3 * MB, "real bytes, not a hole"
    measured.mb = 63
    assert measured.disk.keep_reserve().has_reserve, "while signing still has room"
    measured.mb = 31
    assert not measured.disk.keep_reserve().has_reserve
    measured.mb = 70
    assert not measured.disk.keep_reserve().has_reserve, "only when there is plenty again"
    measured.mb = 200
    assert measured.disk.keep_reserve().has_reserve
    told = [record.getMessage() for record in caplog.records if record.name == "bitewing.disk"]
    assert len(told) == 3, "once for each change"


def test_the_room_is_a_metric(measured: Measured) -> None:
    registry = CollectorRegistry()
    registry.register(DiskCollector(measured.disk))
    text = generate_latest(registry).decode()
    assert "bitewing_disk_free_bytes 1e+10" in text
    assert 'bitewing_disk_watermark_bytes{mark="refuse"} 6.4e+07' in text
