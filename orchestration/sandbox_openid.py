"""``bitewing sandbox openid``: an invented sign-in service on the loopback interface.

It speaks OpenID Connect as a practice's own service would (discovery, authorization code with
PKCE, published keys that can be rotated), shows its invented people to choose from, and can be told
to lie: each :class:`Lie` is an attack on tokens that a node must refuse.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from node.errors import ConfigError
from orchestration.sandbox_request import SandboxRequest

DEFAULT_PORT = 8028
CLIENT_ID = "bitewing"
_LIFE_S = 300
_MAX_FORM = 16_384


class Lie(StrEnum):
    """What is wrong with the next token."""

    ALG_NONE = "alg_none"  # no signature at all
    SHARED_SECRET = "shared_secret"  # HS256, the public key taken as the secret
    OTHER_KEY = "other_key"  # signed with a key of the attacker, under a published name
    UNKNOWN_KEY = "unknown_key"  # a name that is not published
    OWN_KEY_IN_HEADER = "own_key_in_header"  # the attacker's key travels with the token
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    OTHER_PARTY = "other_party"  # several audiences, issued to another
    WRONG_NONCE = "wrong_nonce"
    NO_NONCE = "no_nonce"
    EXPIRED = "expired"
    NOT_YET = "not_yet"  # issued in the future
    NO_SUBJECT = "no_subject"
    ACCESS_TOKEN = "access_token"  # another kind of token in the place of an identity
    CHANGED = "changed"  # a signed token whose claims were changed afterwards
    NO_TOKEN = "no_token"


@dataclass(frozen=True, slots=True)
class Member:
    """An invented person and their groups."""

    name: str
    display_name: str
    groups: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The opaque name under which a node knows them."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:20]


MEMBERS = (
    Member("olivia", "Dr Olivia Osei", ("staff", "dentists")),
    Member("henry", "Henry Hale, RDH", ("staff", "hygienists")),
    Member("mia", "Mia Manager", ("staff", "managers")),
    Member("ada", "Ada Admin", ("staff", "it")),
    Member("gus", "Gus Guest", ("visitors",)),
)
ROLES = {"dentists": "dentist", "hygienists": "hygienist", "managers": "office_manager"}
ROLES["it"] = "admin"


@dataclass(slots=True)
class OpenIdHandle:
    """A running sign-in service, and what a test may do with it."""

    issuer: str
    client_secret: str = field(repr=False)
    members: dict[str, Member] = field(repr=False)
    redirect_uris: list[str] = field(default_factory=list)
    keys: list[RSAKey] = field(default_factory=list, repr=False)
    lie: Lie | None = None
    skew_s: int = 0  # how far its clock is ahead
    asked: list[str] = field(default_factory=list)  # paths that were asked for
    codes: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def settings(self, public_url: str) -> dict[str, object]:
        """Give the section ``[oidc]`` that leads a node here."""
        self.redirect_uris.append(f"{public_url}/oidc/callback")
        return {
            "issuer": self.issuer,
            "client_id": CLIENT_ID,
            "client_secret": self.client_secret,
            "public_url": public_url,
            "groups": tuple({"group": group, "role": role} for group, role in ROLES.items()),
        }

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one is published no more."""
        self.keys = [_new_key()]

    def regroup(self, name: str, *groups: str) -> None:
        """Put somebody into other groups."""
        self.members[name] = Member(name, self.members[name].display_name, groups)

    def metadata(self) -> dict[str, object]:
        """Describe the service (OpenID Connect Discovery)."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def published(self) -> dict[str, object]:
        """Give the public keys."""
        return {"keys": [{**key.as_dict(private=False), "use": "sig"} for key in self.keys]}

    def grant(self, query: Mapping[str, str], name: str) -> str:
        """Sign `name` in; give the address back to the node, with a code."""
        if query.get("redirect_uri") not in self.redirect_uris:
            raise PermissionError("unknown redirect_uri")
        code = secrets.token_urlsafe(24)
        self.codes[code] = {**query, "name": name}
        back = {"code": code, "state": query.get("state", ""), "iss": self.issuer}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def redeem(self, form: Mapping[str, str], client: tuple[str, str]) -> dict[str, object]:
        """Exchange a code, once, for a token. Raises PermissionError."""
        given = self.codes.pop(form.get("code", ""), None)
        expected = base64.urlsafe_b64encode(
            hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        ).decode()
        if given is None or not hmac.compare_digest(client[1], self.client_secret):
            raise PermissionError("invalid_grant")
        if client[0] != CLIENT_ID or given["redirect_uri"] != form.get("redirect_uri"):
            raise PermissionError("invalid_grant")
        if given.get("code_challenge") != expected.rstrip("="):
            raise PermissionError("invalid_grant")
        answer: dict[str, object] = {"access_token": secrets.token_urlsafe(16)}
        answer |= {"token_type": "Bearer", "expires_in": _LIFE_S}
        if self.lie is not Lie.NO_TOKEN:
            answer["id_token"] = self._token(self.members[given["name"]], given.get("nonce", ""))
        return answer

    def _token(self, member: Member, nonce: str) -> str:
        now = int(time.time()) + self.skew_s
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": member.subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + _LIFE_S,
            "nonce": nonce,
            "preferred_username": member.name,
            "name": member.display_name,
            "groups": list(member.groups),
        }
        claims = _lied(claims, self.lie)
        key = self.keys[-1]
        header: dict[str, object] = {"alg": "RS256", "kid": key.kid, "typ": "JWT"}
        match self.lie:
            case Lie.ALG_NONE:
                return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."
            case Lie.SHARED_SECRET:
                said = f"{_part({**header, 'alg': 'HS256'})}.{_part(claims)}"
                made = hmac.digest(key.as_pem(private=False), said.encode(), "sha256")
                return f"{said}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"
            case Lie.OTHER_KEY:
                return jwt.encode(header, claims, _new_key())
            case Lie.UNKNOWN_KEY:
                own = _new_key()
                return jwt.encode({**header, "kid": own.kid}, claims, own)
            case Lie.OWN_KEY_IN_HEADER:
                own = _new_key()
                shown = {**header, "kid": own.kid, "jwk": own.as_dict(private=False)}
                return jwt.encode(shown, claims, own)
            case Lie.ACCESS_TOKEN:
                return jwt.encode({**header, "typ": "at+jwt"}, claims, key)
            case Lie.CHANGED:
                head, _, signature = jwt.encode(header, claims, key).split(".")
                return f"{head}.{_part({**claims, 'groups': ['it']})}.{signature}"
            case _:
                return jwt.encode(header, claims, key)


def _lied(claims: dict[str, object], lie: Lie | None) -> dict[str, object]:
    now = cast(int, claims["iat"])
    changed: dict[Lie, dict[str, object]] = {
        Lie.WRONG_ISSUER: {"iss": "http://127.0.0.1:1"},
        Lie.WRONG_AUDIENCE: {"aud": "another-program"},
        Lie.OTHER_PARTY: {"aud": [CLIENT_ID, "another"], "azp": "another"},
        Lie.WRONG_NONCE: {"nonce": secrets.token_urlsafe(32)},
        Lie.NO_NONCE: {"nonce": None},
        Lie.EXPIRED: {"iat": now - 2 * _LIFE_S, "exp": now - _LIFE_S},
        Lie.NOT_YET: {"iat": now + _LIFE_S, "nbf": now + _LIFE_S, "exp": now + 2 * _LIFE_S},
        Lie.NO_SUBJECT: {"sub": None},
    }
    wanted = {**claims, **(changed.get(lie, {}) if lie else {})}
    return {name: value for name, value in wanted.items() if value is not None}


def _part(values: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _new_key() -> RSAKey:
    return RSAKey.generate_key(2048, auto_kid=True)


@contextmanager
def running_openid(port: int = 0, client_secret: str = "") -> Iterator[OpenIdHandle]:
    """Run a sign-in service beside the caller; port 0 is any free one, no secret a made-up one.

    Raises ConfigError when the port is taken.
    """
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except OSError as error:
        raise ConfigError(f"the port {port} cannot be opened ({error.strerror})") from None
    server.handle = OpenIdHandle(
        f"http://127.0.0.1:{server.server_address[1]}",
        client_secret or secrets.token_urlsafe(24),
        {member.name: member for member in MEMBERS},
        keys=[_new_key()],
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server.handle
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    handle: OpenIdHandle


class _Handler(SandboxRequest):
    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        handle = cast(_Server, self.server).handle
        handle.asked.append(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/.well-known/openid-configuration":
                self.answer(200, handle.metadata())
            case "/keys":
                self.answer(200, handle.published())
            case "/authorize" if query.get("login_hint") in handle.members:
                self._back(handle, query, query["login_hint"])
            case "/authorize":
                self._choose(handle, query)
            case _:
                self.answer(404, {"error": "not_found"})

    def do_POST(self) -> None:
        handle = cast(_Server, self.server).handle
        path = urlsplit(self.path).path
        handle.asked.append(path)
        content = self.read_body(_MAX_FORM)
        if content is None:
            return
        form = dict(parse_qsl(content.decode("utf-8", "replace")))
        if path == "/authorize":
            self._back(handle, form, form.pop("who", ""))
            return
        try:
            answer = handle.redeem(form, self._client())
        except PermissionError as error:
            self.answer(400, {"error": str(error)})
            return
        self.answer(200, answer)

    def _client(self) -> tuple[str, str]:
        word = self.headers.get("authorization", "").removeprefix("Basic ")
        try:
            name, _, secret = base64.b64decode(word).decode().partition(":")
        except ValueError:
            return "", ""
        return unquote(name), unquote(secret)

    def _back(self, handle: OpenIdHandle, query: Mapping[str, str], name: str) -> None:
        try:
            place = handle.grant(query, name) if name in handle.members else ""
        except PermissionError as error:
            self.answer(400, {"error": str(error)})
            return
        if not place:
            self.answer(400, {"error": "nobody"})
            return
        self.send(303, "text/plain", b"", {"Location": place})

    def _choose(self, handle: OpenIdHandle, query: Mapping[str, str]) -> None:
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in query.items()
        )
        buttons = "".join(
            f'<p><button name="who" value="{member.name}">{html.escape(member.display_name)}'
            f"</button> {html.escape(', '.join(member.groups))}</p>"
            for member in handle.members.values()
        )
        page = (
            '<!doctype html><html lang="en"><title>Invented sign-in service</title>'
            f'<h1>Invented sign-in service</h1><form method="post">{hidden}{buttons}</form></html>'
        )
        self.send_page(page)
