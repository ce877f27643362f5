"""Options that commands share: which configuration file, which data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.config import Config

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; ./bitewing.toml when there is one.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder for database and images.")]


def read_settings(
    config: Path | None,
    data_dir: Path | None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """Read the configuration that a command was given; `overrides` are its other options."""
    from node.config import read_config

    if config is None and Path("bitewing.toml").exists():
        config = Path("bitewing.toml")
    merged = {name: dict(values) for name, values in (overrides or {}).items()}
    if data_dir is not None:
        merged.setdefault("node", {})["data_dir"] = data_dir
    return read_config(config, overrides=merged)


def open_db(settings: Config) -> sa.Engine:
    """Open the configuration's database as it is, with its keys if it has any."""
    from node.db.keys import attach_keys_if_there
    from node.db.session import open_database

    db = open_database(settings.database_url)
    attach_keys_if_there(db, settings)
    return db
