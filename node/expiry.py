"""Until when this node's certificates are good, and which of them need somebody's attention."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.certificates import read_certificate
from node.config import Config
from node.db.session import read
from node.errors import ConfigError
from node.local_ca import issued
from pms_writeback.bridge.registry import certificates

_LOG = logging.getLogger(__name__)

#: A certificate that ends sooner is told of; a bridge renews its own when a third is left.
WARN = timedelta(days=30)
_WARN_BRIDGE = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Expiry:
    """One certificate in use; ``expires_at`` is None when its file cannot be read."""

    name: str
    expires_at: datetime | None
    warn: timedelta = WARN

    def is_fine(self, now: datetime) -> bool:
        """Tell whether nobody needs to look at it."""
        return self.expires_at is not None and self.expires_at - now > self.warn

    def words(self, now: datetime) -> str:
        """Say how it stands."""
        if self.expires_at is None:
            return f"{self.name} cannot be read"
        if self.expires_at <= now:
            return f"{self.name} EXPIRED on {self.expires_at:%Y-%m-%d}"
        left = (self.expires_at - now).days
        return f"{self.name} until {self.expires_at:%Y-%m-%d} ({left} days)"


def find_expiries(config: Config, db: sa.Engine) -> list[Expiry]:
    """Look at every certificate in use: ours, those for peers, those handed out, bridges'."""
    named = [("web", config.web.tls_certificate), ("dicom", config.dicom.tls_certificate)]
    named += [(f"peer {peer.name}", peer.tls_certificate) for peer in config.dicom.peers]
    found = [_of_file(name, Path(path)) for name, path in named if path]
    location_id = config.node.location_id
    with read(db) as conn:
        handed_out: dict[str, datetime] = {}
        for row in issued(conn, location_id):
            if row.revoked_at is None and row.kind == "peer":
                handed_out.setdefault(f"{row.kind} {row.name}", row.expires_at)
        bridges = [each for each in certificates(conn, location_id) if each.revoked_at is None]
    found += [Expiry(f"handed out: {name}", end) for name, end in handed_out.items()]
    if bridges and config.pms.kind in ("dentrix", "eaglesoft"):
        found.append(Expiry("bridge", bridges[0].expires_at, _WARN_BRIDGE))
    return found


def _of_file(name: str, path: Path) -> Expiry:
    try:
        return Expiry(name, read_certificate(path).not_valid_after_utc)
    except ConfigError:
        return Expiry(name, None)


def warn_of_expiries(config: Config, db: sa.Engine, now: datetime) -> int:
    """Log each certificate that ends soon; returns how many. For a daily tick."""
    late = [each for each in find_expiries(config, db) if not each.is_fine(now)]
    for each in late:
        _LOG.warning("certificate: %s; `bitewing ca renew` makes the next", each.words(now))
    return len(late)


class CertificateCollector(Collector):
    """One gauge per certificate: when it ends, in seconds since 1970."""

    def __init__(self, config: Config, db: sa.Engine) -> None:
        self._config = config
        self._db = db

    def collect(self) -> Iterable[Metric]:
        """Read the ends anew at each scrape; one that cannot be read ended at 0."""
        family = GaugeMetricFamily(
            "bitewing_certificate_expires_timestamp_seconds",
            "When a certificate in use ends",
            labels=["certificate"],
        )
        for each in find_expiries(self._config, self._db):
            family.add_metric([each.name], each.expires_at.timestamp() if each.expires_at else 0.0)
        yield family
