"""Room on the data folder's disk: two watermarks and a reserve, so that work under way can end.

Below the upper mark somebody is warned. Below the lower one no image is taken (A700), while
reading, signing and what is owed to others go on. When even that fills up, the reserve file is let
go, so that a signature still finds room; it is made again once there is plenty.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.config import Config

_LOG = logging.getLogger("bitewing.disk")
_MB = 1_000_000
_BLOCK = 1 << 20
RESERVE = "reserve"


class Room(StrEnum):
    """How much room there is."""

    PLENTY = "plenty"
    LOW = "low"  # below node.low_disk_mb
    REFUSING = "refusing"  # below dicom.min_free_mb: images are refused
    LAST = "last"  # below half of that: the reserve was let go


def free_bytes(folder: Path) -> int:
    """Count the bytes that an ordinary account may still write there."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the disk."""

    room: Room
    free_bytes: int
    has_reserve: bool

    @property
    def words(self) -> str:
        """Say it in plain words."""
        words = f"{self.free_bytes / 1e9:.1f} GB free"
        match self.room:
            case Room.PLENTY:
                return words
            case Room.LOW:
                return f"{words}: make room soon"
            case Room.REFUSING:
                return f"{words}: images are refused until there is room"
            case Room.LAST:
                return f"{words}: images are refused, the reserve was let go; make room now"


@dataclass(slots=True)
class Disk:
    """The disk of one data folder; `free` measures it."""

    folder: Path
    low_mb: int
    refuse_mb: int
    reserve_mb: int
    free: Callable[[Path], int] = free_bytes
    _last: Room = field(default=Room.PLENTY)

    def look(self) -> Look:
        """Measure; nothing is changed."""
        free = self.free(self.folder)
        return Look(self._room(free), free, self._reserve.exists())

    def keep_reserve(self) -> Look:
        """Make the reserve, or let it go; tell the log when the room has changed. For a tick."""
        seen = self.look()
        if seen.room is Room.LAST and seen.has_reserve:
            self._reserve.unlink()
        elif self._has_plenty(seen.free_bytes) and not seen.has_reserve and self.reserve_mb:
            self._make_reserve()
        if seen.room is not self._last:
            level = logging.INFO if seen.room is Room.PLENTY else logging.WARNING
            _LOG.log(level, "disk: %s", seen.words)
            self._last = seen.room
        return self.look()

    @property
    def _reserve(self) -> Path:
        return self.folder / RESERVE

    def _room(self, free: int) -> Room:
        if free < self.refuse_mb * _MB // 2:
            return Room.LAST
        if free < self.refuse_mb * _MB:
            return Room.REFUSING
        return Room.LOW if free < self.low_mb * _MB else Room.PLENTY

    def _has_plenty(self, free: int) -> bool:
        return free > (self.refuse_mb + 2 * self.reserve_mb) * _MB

    def _make_reserve(self) -> None:
        """Write real bytes: a hole in a file reserves nothing."""
        part = self._reserve.with_suffix(".part")
        try:
            with part.open("wb") as file:
                for _ in range(max(1, self.reserve_mb * _MB // _BLOCK)):
                    file.write(os.urandom(_BLOCK))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._reserve)
        except OSError as error:
            part.unlink(missing_ok=True)
            _LOG.warning("the disk reserve cannot be made (%s)", error.strerror)


def disk_of(config: Config) -> Disk:
    """Give the disk of a configuration's data folder."""
    node = config.node
    return Disk(node.data_dir, node.low_disk_mb, config.dicom.min_free_mb, node.reserve_mb)


class DiskCollector(Collector):
    """Gauges: bytes that are free, and the two watermarks."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def collect(self) -> Iterable[Metric]:
        """Measure at each scrape."""
        yield GaugeMetricFamily(
            "bitewing_disk_free_bytes", "Room for data", value=self._disk.look().free_bytes
        )
        marks = GaugeMetricFamily(
            "bitewing_disk_watermark_bytes", "Below it: warned, refused", labels=["mark"]
        )
        marks.add_metric(["low"], self._disk.low_mb * _MB)
        marks.add_metric(["refuse"], self._disk.refuse_mb * _MB)
        yield marks
