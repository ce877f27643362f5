"""The way out without a licence: documents as files in a folder, for staff to file by hand.

A driver that may not write documents is wrapped; every other command stays as the driver says. A
file is named by the patient's number and the command's token, never by a person's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError, InvalidInput, Retryable
from pms_writeback.bridge.driver import About, Driver, Table, Values, Window
from pms_writeback.pms import Capability, Command, Receipt, Support, UploadDocument

RESOURCE = "exported_file"


@dataclass(frozen=True, slots=True)
class Exporting:
    """A driver whose documents go to a folder; see `pms_writeback.bridge.driver.Driver`."""

    driver: Driver
    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigError(f"export_folder {self.folder} is not a folder")

    @property
    def tables(self) -> tuple[Table, ...]:
        """What the driver reads."""
        return self.driver.tables

    @property
    def posting_s(self) -> float:
        """As the driver's."""
        return self.driver.posting_s

    def about(self) -> About:
        """Say what the driver is connected to."""
        return self.driver.about()

    def operations(self) -> tuple[Capability, ...]:
        """Take documents, and what the driver takes."""
        name = UploadDocument.__name__
        mine = Capability(name, Support.SUPPORTED, "as a file for staff, in the export folder")
        return tuple(mine if each.operation == name else each for each in self.driver.operations())

    def rows(self, table: Table, window: Window) -> Iterator[Values]:
        """Read by the driver."""
        return self.driver.rows(table, window)

    def row(self, table: Table, key: str) -> Values | None:
        """Read by the driver."""
        return self.driver.row(table, key)

    def execute(self, command: Command) -> Receipt:
        """Write a document as a file, whole or not at all; the rest by the driver."""
        if not isinstance(command, UploadDocument):
            return self.driver.execute(command)
        path = self._path(command)
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as file:
                file.write(command.content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise Retryable(f"the export folder takes no file ({error.strerror})", 60.0) from None
        return Receipt(RESOURCE, path.name)

    def find(self, command: Command) -> Receipt | None:
        """Look for a document's file; the rest by the driver."""
        if not isinstance(command, UploadDocument):
            return self.driver.find(command)
        path = self._path(command)
        return Receipt(RESOURCE, path.name, already_there=True) if path.exists() else None

    def close(self) -> None:
        """Close the driver."""
        self.driver.close()

    def _path(self, command: UploadDocument) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", command.patient_key):
            raise InvalidInput("the patient's number cannot be part of a file's name")
        token = command.ref.removeprefix("ref:")
        return self.folder / f"{command.patient_key}-{token}{command.extension}"


def with_export(driver: Driver, folder: str) -> Driver:
    """Wrap a driver that does not take documents; others, and an empty folder, change nothing.

    Raises ConfigError when the folder is not there.
    """
    takes = {each.operation for each in driver.operations() if each.support is Support.SUPPORTED}
    if not folder or UploadDocument.__name__ in takes:
        return driver
    return Exporting(driver, Path(folder))
