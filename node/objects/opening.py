"""The store of a configuration: a folder, or a folder with a bucket behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.config import Config
from node.db.keyring import KeyRing
from node.dicom.instances import FolderStore
from node.errors import ConfigError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.objects.bucket import Bucket

_IMAGES = "images"


def open_objects(config: Config, db: sa.Engine, ring: KeyRing | None) -> FolderStore:
    """Open the place of a configuration's images; with ``[objects]`` a BucketStore.

    Raises ConfigError when a bucket is configured and the extra is missing or nothing is sealed.
    """
    folder, min_free_mb = config.node.data_dir / _IMAGES, config.dicom.min_free_mb
    if not config.objects.endpoint:
        return FolderStore(folder, min_free_mb, ring)
    bucket = open_bucket(config)
    if ring is None:
        raise ConfigError(
            "[objects] takes sealed objects only: set [encryption] enabled, and run"
            " `bitewing encrypt-data` for what lies there"
        )
    from node.objects.shelf import NAME, Shelf
    from node.objects.store import BucketStore

    shelf = Shelf(config.node.data_dir / NAME)
    return BucketStore(folder, shelf, bucket, db, ring, min_free_mb)


def open_bucket(config: Config) -> Bucket:
    """Open the configured bucket, sending nothing yet; raise ConfigError without the extra."""
    try:
        from node.objects.bucket import Bucket
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"[objects] needs a package that is not installed ({error.name}):"
            " pip install 'bitewing[objects]'"
        ) from None
    return Bucket(config.objects, config.outgoing.reach("objects", takes_near=True))
