"""Programs that ask the web part: a person's name and password with each request (RFC 7617).

A viewer cannot sign in as the page does. Its first request opens a session of that account, with
the same limits, rights and audit; the next ones find it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from node.web.accounts import Accounts, Origin, Session, Unauthenticated

_MOST = 1_000


class Callers:
    """Sessions of programs, by a digest of what they send; forgets the oldest."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._guard = threading.Lock()

    def session_of(self, credentials: str, count_try: Callable[[], None]) -> Session:
        """Return the session of what follows ``Authorization: Basic``.

        `count_try` is called before a password is looked at. Raises Unauthenticated when it is
        none, WrongCredentials when they are wrong, CodeMissing for an account with a second
        factor: such a program takes a token.
        """
        username, password = _read(credentials)
        digest = hashlib.sha256(credentials.encode()).hexdigest()
        with self._guard:
            token = self._tokens.get(digest, "")
        if token:
            try:
                session = self._accounts.find(token)
            except Unauthenticated:
                session = None
            if session is not None and not session.is_locked:
                self._accounts.touch(session)
                return session
        count_try()
        origin = Origin(method="program")
        token, session = self._accounts.sign_in(username, password, origin=origin)
        with self._guard:
            self._tokens[digest] = token
            self._tokens.move_to_end(digest)
            if len(self._tokens) > _MOST:
                self._tokens.popitem(last=False)
        return session


def _read(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("Please sign in.") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated("Please sign in.")
    return username, password
