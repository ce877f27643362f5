"""The page's files as they are served: read once, compressed once, under one release of their own.

All files of a running node are of one release, named by a digest of their contents. A page asks
for its files below ``/static/<release>/``; what stands there never changes, so a browser keeps it
and asks for nothing when the page is opened again. Modules import each other by relative addresses
and so stay within their release.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from posixpath import dirname, normpath

from node.web.lean import lean

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSIBLE = (".mjs", ".css", ".svg", ".json", ".txt")
_IMPORT = re.compile(r'^(?:import|export)\b[^"\n(]*"(\.[^"]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes as served, the same compressed (empty: not worth it), and its digest."""

    content: bytes
    zipped: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class Release:
    """Every file that pages may ask for, by its name below ``/static/``."""

    name: str
    assets: Mapping[str, Asset]
    imports: Mapping[str, tuple[str, ...]]

    def modules_from(self, entry: str) -> tuple[str, ...]:
        """Name every module that `entry` needs before it runs, so that all are asked for at once.

        What is imported on demand, by ``import()``, is not among them.
        """
        found: dict[str, None] = {}
        waiting = [entry]
        while waiting:
            module = waiting.pop(0)
            if module not in found:
                found[module] = None
                waiting += self.imports.get(module, ())
        return tuple(found)


@lru_cache(maxsize=1)
def release() -> Release:
    """Read the files of this installation; they are read once in a process."""
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file() and path.suffix in _TYPES)
    assets = {path.relative_to(STATIC).as_posix(): _asset(path) for path in paths}
    digests = "".join(f"{name} {asset.digest}\n" for name, asset in assets.items())
    imports = {
        name: _imports(name, asset.content)
        for name, asset in assets.items()
        if name.endswith(".mjs")
    }
    return Release(hashlib.sha256(digests.encode()).hexdigest()[:16], assets, imports)


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    if path.suffix == ".mjs" and path.parent.name != "vendor":
        content = lean(content.decode()).encode()
    zipped = gzip.compress(content, 9, mtime=0) if path.suffix in _COMPRESSIBLE else b""
    if len(zipped) >= len(content):
        zipped = b""
    digest = hashlib.sha256(content).hexdigest()[:32]
    return Asset(content, zipped, _TYPES[path.suffix], digest)


def _imports(name: str, content: bytes) -> tuple[str, ...]:
    """Name the modules that a module imports before it runs."""
    found = _IMPORT.findall(content.decode())
    return tuple(normpath(f"{dirname(name)}/{each}").lstrip("/") for each in found)
