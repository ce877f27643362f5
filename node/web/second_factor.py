"""A second factor: codes of an authenticator app (TOTP, RFC 6238) and recovery codes.

Six digits, thirty seconds, SHA-1, as every authenticator app takes. A code counts once: only later
time steps than the last one taken are accepted (RFC 6238 §5.2), one step of clock drift each way.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.db.session import Actor, Tx, begin, read
from node.db.tables import recovery_code, user_account
from node.errors import BitewingError, InvalidInput

STEP_S = 30
DIGITS = 6
RECOVERY_CODES = 10
_DRIFT = 1
_SECRET_BYTES = 20


class CodeMissing(BitewingError):
    """The password fits; now the code of the authenticator app is asked for."""

    def __init__(self) -> None:
        super().__init__("Give the code that your authenticator app shows.")


def totp(secret: bytes, step: int) -> str:
    """Compute the code of one time step (RFC 6238 over RFC 4226 §5.3)."""
    digest = hmac.new(secret, struct.pack(">Q", step), hashlib.sha1).digest()
    offset = digest[-1] & 0xF
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def fitting_step(secret: bytes, code: str, at: datetime, after: int) -> int | None:
    """Find the time step later than `after` whose code this is, one step of drift each way."""
    now = int(at.timestamp()) // STEP_S
    fitting = [
        step
        for step in range(now - _DRIFT, now + _DRIFT + 1)
        if hmac.compare_digest(totp(secret, step), code) and step > after
    ]
    return fitting[0] if fitting else None


def address_of(secret: bytes, username: str, issuer: str) -> str:
    """Write the ``otpauth:`` address that an authenticator app reads from the picture."""
    label = quote(f"{issuer}:{username}")
    return f"otpauth://totp/{label}?secret={_words(secret)}&issuer={quote(issuer)}"


def _words(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


class Codes:
    """Second factors of the people of one location; the secrets are kept sealed under `key`."""

    def __init__(
        self,
        db: sa.Engine,
        location_id: str,
        key: bytes,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._db = db
        self._location_id = location_id
        self._seal = AESGCM(hashlib.sha256(b"second factor" + key).digest())
        self._clock = clock

    def begin(self, user_id: str) -> bytes:
        """Make a new secret; it counts for nothing until :meth:`confirm`."""
        secret = secrets.token_bytes(_SECRET_BYTES)
        with begin(self._db, Actor(user_id, self._location_id), "second_factor.begun") as tx:
            tx.conn.execute(
                user_account.update()
                .where(user_account.c.id == user_id, user_account.c.totp_at.is_(None))
                .values(totp_secret=self._sealed(user_id, secret), totp_step=0)
            )
            tx.record(f"user:{user_id}")
        return secret

    def confirm(self, user_id: str, code: str) -> tuple[str, ...]:
        """Take the first code of the app: from now on it is asked for. Returns recovery codes.

        Raises InvalidInput when the code does not fit.
        """
        with begin(self._db, Actor(user_id, self._location_id), "second_factor.confirmed") as tx:
            row = self._row(tx.conn, user_id)
            if row is None or not row.totp_secret or row.totp_at is not None:
                raise InvalidInput("Begin with a new picture.")
            step = self._step(row, code)
            if step is None:
                raise InvalidInput("That code does not fit. Is the clock of the phone right?")
            tx.conn.execute(
                user_account.update()
                .where(user_account.c.id == user_id)
                .values(totp_at=tx.now, totp_step=step)
            )
            tx.record(f"user:{user_id}")
            return self._new_recovery_codes(tx, user_id)

    def renew(self, user_id: str) -> tuple[str, ...]:
        """Make new recovery codes; the old ones count no more."""
        with begin(self._db, Actor(user_id, self._location_id), "recovery_codes.renewed") as tx:
            tx.record(f"user:{user_id}")
            return self._new_recovery_codes(tx, user_id)

    def remove(self, actor: Actor, user_id: str) -> None:
        """Take a person's second factor away: their own wish, or an administrator's."""
        with begin(self._db, actor, "second_factor.removed") as tx:
            tx.conn.execute(
                user_account.update()
                .where(
                    user_account.c.id == user_id, user_account.c.location_id == self._location_id
                )
                .values(totp_secret="", totp_at=None, totp_step=0)
            )
            tx.conn.execute(sa.delete(recovery_code).where(recovery_code.c.user_id == user_id))
            tx.record(f"user:{user_id}")

    def left(self, user_id: str) -> int:
        """Count the recovery codes that have not been used."""
        query = sa.select(sa.func.count()).where(
            recovery_code.c.user_id == user_id, recovery_code.c.used_at.is_(None)
        )
        with read(self._db) as conn:
            return int(conn.execute(query).scalar_one())

    def take(self, user_id: str, code: str) -> bool:
        """Whether this is the code of now or a recovery code; either counts once."""
        plain = "".join(code.split()).replace("-", "").upper()
        with begin(self._db, Actor(user_id, self._location_id), "second_factor.asked") as tx:
            is_right = (
                self._take_code(tx, user_id, plain)
                if len(plain) == DIGITS
                else self._take_recovery_code(tx, user_id, plain)
            )
            tx.record(f"user:{user_id}", is_right=is_right)
        return is_right

    def _take_code(self, tx: Tx, user_id: str, code: str) -> bool:
        row = self._row(tx.conn, user_id)
        step = self._step(row, code) if row is not None and row.totp_at is not None else None
        if step is None:
            return False
        taken = tx.conn.execute(
            user_account.update()
            .where(user_account.c.id == user_id, user_account.c.totp_step < step)
            .values(totp_step=step)
        )
        return taken.rowcount == 1

    def _take_recovery_code(self, tx: Tx, user_id: str, code: str) -> bool:
        taken = tx.conn.execute(
            recovery_code.update()
            .where(
                recovery_code.c.digest == _digest(user_id, code),
                recovery_code.c.user_id == user_id,
                recovery_code.c.used_at.is_(None),
            )
            .values(used_at=tx.now)
        )
        return taken.rowcount == 1

    def _new_recovery_codes(self, tx: Tx, user_id: str) -> tuple[str, ...]:
        tx.conn.execute(sa.delete(recovery_code).where(recovery_code.c.user_id == user_id))
        codes = tuple(_words(secrets.token_bytes(10)) for _ in range(RECOVERY_CODES))
        common = {"location_id": self._location_id, "user_id": user_id, "created_at": tx.now}
        tx.conn.execute(
            recovery_code.insert(), [{"digest": _digest(user_id, c), **common} for c in codes]
        )
        return tuple("-".join(code[at : at + 4] for at in range(0, 16, 4)) for code in codes)

    def _row(self, conn: sa.Connection, user_id: str) -> sa.Row[tuple[object, ...]] | None:
        return conn.execute(
            sa.select(user_account)
            .where(user_account.c.id == user_id, user_account.c.location_id == self._location_id)
            .with_for_update()
        ).first()

    def _step(self, row: sa.Row[tuple[object, ...]], code: str) -> int | None:
        secret = self._opened(row.id, row.totp_secret)
        return fitting_step(secret, code, self._clock(), row.totp_step)

    def _sealed(self, user_id: str, secret: bytes) -> str:
        nonce = secrets.token_bytes(12)
        sealed = nonce + self._seal.encrypt(nonce, secret, user_id.encode())
        return base64.b64encode(sealed).decode()

    def _opened(self, user_id: str, kept: str) -> bytes:
        sealed = base64.b64decode(kept)
        try:
            return self._seal.decrypt(sealed[:12], sealed[12:], user_id.encode())
        except InvalidTag:
            raise InvalidInput(
                "The second factor was kept under another key. Ask an administrator to reset it."
            ) from None


def _digest(user_id: str, code: str) -> str:
    return hashlib.sha256(f"{user_id}:{code}".encode()).hexdigest()
