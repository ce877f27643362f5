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

from fastapi import Request

from node.domain.rights import Right
from node.web.accounts import Accounts, Session, Unauthenticated
from node.web.auth import demand, unlocked

_MOST = 1_000


class Callers:
    """Sessions of programs, by a digest of what they send; forgets the oldest."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._guard = threading.Lock()

    def session_of(self, header: str) -> Session:
        """Return the session of an ``Authorization: Basic`` header.

        Raises Unauthenticated when it is none, WrongCredentials when they are wrong.
        """
        username, password = _read(header)
        digest = hashlib.sha256(header.encode()).hexdigest()
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
        token, session = self._accounts.sign_in(username, password)
        with self._guard:
            self._tokens[digest] = token
            self._tokens.move_to_end(digest)
            if len(self._tokens) > _MOST:
                self._tokens.popitem(last=False)
        return session


def _read(header: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(header[len("Basic ") :], validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("Please sign in.") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated("Please sign in.")
    return username, password


def allow(*rights: Right) -> Callable[[Request], Session]:
    """Make the dependency that lets a program or a signed-in page pass that has all `rights`."""

    def check(request: Request) -> Session:
        header = request.headers.get("authorization", "")
        if header.startswith("Basic "):
            callers = request.app.state.callers
            assert isinstance(callers, Callers)
            session = callers.session_of(header)
        else:
            session = unlocked(request)
        for right in rights:
            demand(session, right)
        return session

    return check
