"""Files that only the program's own account may read: keys, passphrases, secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from node.errors import ConfigError

_MOST_BYTES = 65_536


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this account may read, whole or not at all, over an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_private(path: Path, name: str) -> bytes:
    """Read a small file that nobody else may read; `name` is what the message calls it.

    Raises ConfigError when it is missing, too large, or open to others (POSIX; on Windows the
    folder's access list is what counts).
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name}: {path} cannot be read ({error.strerror})") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{name}: {path} may be read by others; chmod 600 it")
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{name}: {path} is too large for a secret")
    return content
