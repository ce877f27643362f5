"""The configuration's store of objects, for commands that read or change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.config import Config
    from node.dicom.instances import FolderStore


def open_store(settings: Config, db: sa.Engine) -> FolderStore:
    """Open the configuration's store of objects with the keys of `db`."""
    from node.db.sealed import keys_of
    from node.objects.opening import open_objects

    return open_objects(settings, db, keys_of(db))
