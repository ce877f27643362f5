"""``bridge.toml``: the clinic's side of the bridge, in the bridge's own folder.

The manual of every key is ``docs/bridge.md``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from node.errors import ConfigError
from pms_writeback.bridge.limits import Hours
from pms_writeback.pms import OfficeTime

SETTINGS_FILE = "bridge.toml"


class BridgeSettings(BaseModel):
    """Everything a bridge needs to know; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node_url: str
    pms: Literal["dentrix", "eaglesoft"]
    time_zone: str
    driver: str = "odbc"
    driver_options: Mapping[str, object] = Field(default_factory=dict)
    snapshot_s: float = Field(60.0, ge=0.05)
    heavy_every_s: float = Field(3600.0, ge=0.05)
    heavy_hours: tuple[str, ...] = ()
    write_hours: tuple[str, ...] = ()
    days_before: int = Field(30, ge=1)
    days_after: int = Field(180, ge=1)
    lock_patience_s: float = Field(30.0, ge=0)
    export_folder: str = ""
    update_key: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("node_url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.path.strip("/"):
            raise ValueError("must look like https://node.example:11443")
        return value.rstrip("/")

    @property
    def office(self) -> OfficeTime:
        """The office's wall clock."""
        return OfficeTime(self.time_zone)

    def hours(self, words: tuple[str, ...]) -> Hours:
        """Read spans of the office's day."""
        return Hours.parse(words, self.office)


def read_settings(folder: Path) -> BridgeSettings:
    """Read the bridge's folder.

    Raises
    ------
    ConfigError
        The file is missing or not TOML, a key is unknown or a value is wrong; option values are
        never in the message.
    """
    path = folder / SETTINGS_FILE
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {SETTINGS_FILE} in {folder}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    try:
        settings = BridgeSettings.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        words = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: "
            + ("unknown key" if each["type"] == "extra_forbidden" else each["msg"])
            for each in problems
        )
        raise ConfigError(f"{path}: {words}") from None
    settings.hours(settings.heavy_hours)
    settings.hours(settings.write_hours)
    return settings
