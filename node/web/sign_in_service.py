"""The practice's sign-in service (OpenID Connect Core 1.0): authorization code with PKCE.

What the service says is believed only signed: the algorithm is one of ours and fits the key, the
key is one of its published set, and issuer, audience, nonce and times are those of this sign-in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from node.config import OidcSection
from node.domain.destinations import Reach
from node.errors import BitewingError, ConfigError, Retryable
from node.outgoing import open_client

#: Signatures with a published key only: a shared secret (HS256) or none could be anybody's.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
LEEWAY_S = 60
_KEYS_AGAIN_S = 30.0
_METADATA_S = 3600.0
_LEAST_RSA_BITS = 2048
_MAX_ANSWER = 1 << 20
_ADDRESS = re.compile(r"https://[^\s#]+|http://(127\.0\.0\.1|localhost)(:\d+)?(/[^\s#]*)?")


_Key = RSAKey | ECKey | OKPKey


class SignInRefused(BitewingError):
    """The sign-in service's answer is not believed, or it refused; the words say which."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at the sign-in service, as signed by it for this sign-in."""

    issuer: str
    subject: str
    username: str
    display_name: str
    groups: tuple[str, ...]


def challenge_of(verifier: str) -> str:
    """Make the PKCE challenge of a verifier (RFC 7636 §4.2, S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class SignInService:
    """One provider, discovered at its issuer; safe to call from many threads."""

    def __init__(
        self,
        section: OidcSection,
        reach: Reach,
        now: Callable[[], float] = time.time,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._section = section
        self._reach = reach
        self._now = now
        self._passed = passed
        self._guard = threading.Lock()
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, tuple[_Key, ...]] | None = None

    @property
    def redirect_uri(self) -> str:
        """Where the service sends people back to."""
        return f"{self._section.public_url}/oidc/callback"

    def address(self, state: str, nonce: str, verifier: str) -> str:
        """Give the address at which a person signs in. Raises Retryable, ConfigError."""
        query = {
            "response_type": "code",
            "client_id": self._section.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self._section.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        place = self._place("authorization_endpoint")
        return f"{place}{'&' if '?' in place else '?'}{urlencode(query)}"

    def identify(self, code: str, verifier: str, nonce: str) -> Identity:
        """Exchange a code for who signed in.

        Raises SignInRefused when the service refuses or its answer is not believed, Retryable
        when it is away.
        """
        section = self._section
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": section.client_id,
            "code_verifier": verifier,
        }
        secret = section.client_secret.get_secret_value()
        auth = (quote(section.client_id, safe=""), quote(secret, safe="")) if secret else None
        answer = self._ask("POST", self._place("token_endpoint"), form, auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused("The sign-in service gave no identity.")
        return self._believe(token, nonce)

    def _believe(self, token: str, nonce: str) -> Identity:
        """Check an ID token (OpenID Connect Core §3.1.3.7) and read who it names."""
        try:
            header = jws.extract_compact(token.encode()).headers()
            if header.get("alg") not in ALGORITHMS:
                raise SignInRefused("The sign-in service's answer is signed in a way we refuse.")
            if str(header.get("typ", "JWT")).upper() != "JWT":
                raise SignInRefused("The sign-in service's answer is another kind of token.")
            key = self._key(header.get("kid"))
            claims = jwt.decode(token, key, algorithms=[header["alg"]]).claims
            self._registry(nonce).validate(claims)
        except (JoseError, ValueError, UnicodeError) as error:
            raise SignInRefused(
                f"The sign-in service's answer is not believed ({type(error).__name__})."
            ) from None
        section, audience = self._section, claims["aud"]
        is_ours = audience == section.client_id or section.client_id in audience
        party = claims.get("azp", section.client_id if isinstance(audience, str) else None)
        if isinstance(audience, list) and len(audience) == 1:
            party = claims.get("azp", section.client_id)
        if claims["iss"] != section.issuer or not is_ours or party != section.client_id:
            raise SignInRefused("The sign-in service's answer is meant for somebody else.")
        if not hmac.compare_digest(str(claims["nonce"]), nonce):
            raise SignInRefused("The sign-in service's answer belongs to another sign-in.")
        return self._identity(claims)

    def _registry(self, nonce: str) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._section.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": self._section.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        groups = claims.get(self._section.groups_claim, ())
        names = groups.split() if isinstance(groups, str) else groups
        if not isinstance(names, list | tuple):
            names = ()
        email = str(claims.get("email") or "")
        username = str(claims.get("preferred_username") or email or claims["sub"])
        return Identity(
            issuer=self._section.issuer,
            subject=str(claims["sub"])[:255],
            username=username,
            display_name=str(claims.get("name") or username)[:128],
            groups=tuple(str(name) for name in names),
        )

    def _key(self, kid: object) -> _Key:
        """Find a published key; a new name makes the set be fetched again, now and then."""
        for is_fresh in (False, True):
            found = [key for key in self._published(is_fresh) if kid is None or key.kid == kid]
            if len(found) == 1:
                return found[0]
        raise SignInRefused("The sign-in service's answer is signed with a key it does not show.")

    def _published(self, is_fresh: bool) -> tuple[_Key, ...]:
        with self._guard:
            kept = self._keys
            age = self._passed() - kept[0] if kept else None
            is_old = age is None or age > _METADATA_S or (is_fresh and age > _KEYS_AGAIN_S)
            if is_old:
                said = self._ask("GET", self._place("jwks_uri"))
                kept = self._keys = (self._passed(), _key_set(said))
        assert kept is not None
        return kept[1]

    def _place(self, name: str) -> str:
        """Read an address from the provider's metadata (OpenID Connect Discovery 1.0 §4)."""
        kept = self._metadata
        if kept is None or self._passed() - kept[0] > _METADATA_S:
            issuer = self._section.issuer
            said = self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if said.get("issuer") != issuer:
                raise ConfigError("the sign-in service calls itself otherwise than [oidc] issuer")
            methods = said.get("code_challenge_methods_supported", ["S256"])
            if "S256" not in methods:
                raise ConfigError("the sign-in service does not know PKCE with S256")
            kept = self._metadata = (self._passed(), said)
        place = kept[1].get(name)
        if not isinstance(place, str) or not _ADDRESS.fullmatch(place):
            raise ConfigError(f"the sign-in service names no usable {name}")
        return place

    def _ask(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Mapping[str, Any]:
        timeout = httpx2.Timeout(10.0)
        with open_client(self._reach, timeout=timeout, uses_proxy=True) as client:
            try:
                answer = client.request(
                    method,
                    url,
                    data=dict(form) if form is not None else None,
                    auth=auth,
                    headers={"accept": "application/json"},
                )
            except httpx2.HTTPError:
                raise Retryable("The sign-in service does not answer.", 15.0) from None
        if answer.status_code >= 500:
            raise Retryable("The sign-in service has a fault.", 15.0)
        if answer.status_code != 200 or len(answer.content) > _MAX_ANSWER:
            raise SignInRefused("The sign-in service refused.")
        try:
            said = json.loads(answer.content)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise SignInRefused("The sign-in service's answer cannot be read.")
        return said


def _key_set(said: Mapping[str, Any]) -> tuple[_Key, ...]:
    """Read a published set, leaving out what cannot be read: it may hold kinds we do not know."""
    keys: list[_Key] = []
    for each in said.get("keys") or ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or "d" in each:
            continue
        try:
            key = JWKRegistry.import_key(each)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        is_weak = isinstance(key, RSAKey) and key.raw_value.key_size < _LEAST_RSA_BITS
        if isinstance(key, RSAKey | ECKey | OKPKey) and not is_weak:
            keys.append(key)
    return tuple(keys)
