"""NexHealth's REST API on the wire: token, envelope, cursors, and what each failure means."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import httpx2

from node.domain.destinations import PUBLIC_ONLY, Reach
from node.errors import BitewingError, ConfigError, NotFound, Rejected, Retryable
from node.outgoing import open_client
from pms_writeback.pms import OfficeAway, OutcomeUnknown
from pms_writeback.wording import without_names

API_VERSION = "v20240412"
#: Rows a page; the service's default is 5.
PER_PAGE = 300
_MAX_PAGES = 10_000
#: A token lives an hour in production; it is renewed a little earlier.
_TOKEN_S = 3300.0

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NexHealthSettings:
    """How to reach one location; `subdomain` names the institution, `location` the office."""

    api_key: str = field(repr=False)
    subdomain: str
    location: str
    time_zone: str
    base_url: str = "https://nexhealth.info"
    document_type: str = "Forms & Letters"
    timeout_s: float = 60.0
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        if not (self.api_key and self.subdomain and self.location):
            raise ConfigError(
                "Curve needs pms.customer_key, pms.subdomain and pms.partner_location"
            )
        is_local = self.base_url.startswith(("http://127.0.0.1", "http://localhost"))
        if not self.base_url.startswith("https://") and not is_local:
            raise ConfigError("pms.base_url must begin with https://")


class Connection:
    """Requests for one location; safe to use from several threads."""

    def __init__(self, settings: NexHealthSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token: tuple[float, str] | None = None
        self._client = open_client(
            settings.reach,
            base_url=settings.base_url.rstrip("/"),
            headers={"Nex-Api-Version": API_VERSION, "Accept": "application/json"},
            timeout=httpx2.Timeout(settings.timeout_s, connect=5.0),
            uses_proxy=True,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def rows(self, path: str, query: Mapping[str, str] | None = None) -> list[Row]:
        """Read a whole list along its cursors."""
        return [row for page in self._pages(path, query or {}) for row in page]

    def row(self, path: str) -> Row:
        """Read one row; raises NotFound."""
        data = self._envelope(self._read(path, {}))["data"]
        if not isinstance(data, dict):
            raise Rejected(f"NexHealth answered {_resource(path)} with something that is not a row")
        return cast("Row", data)

    def write(
        self,
        method: str,
        path: str,
        body: Row | None = None,
        *,
        query: Mapping[str, str] | None = None,
        file: tuple[str, bytes, str] | None = None,
    ) -> Row:
        """Send one write once and give the accepted row; landing in Curve comes later.

        `file` is its name, bytes and media type. Raises OutcomeUnknown when it may have been
        taken and the answer was lost.
        """
        options: dict[str, object] = {"params": {**self._scope, **(query or {})}}
        if file is None:
            options["json"] = body
        else:
            options["files"] = {"file": file}
        try:
            answer = self._send(method, path, options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _away(error) from error
        except httpx2.RequestError as error:
            kind = type(error).__name__
            raise OutcomeUnknown(f"the answer to a write was lost ({kind})") from error
        if answer.status_code >= 500:
            raise OutcomeUnknown(f"NexHealth failed on a write ({answer.status_code})", 15.0)
        if not answer.is_success:
            raise _failure(answer)
        data = self._envelope(answer).get("data")
        if not isinstance(data, dict):
            raise OutcomeUnknown("NexHealth's answer to a write cannot be read")
        return cast("Row", data)

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[list[Row]]:
        cursor = ""
        for _ in range(_MAX_PAGES):
            paging = {"per_page": str(PER_PAGE)} | ({"start_cursor": cursor} if cursor else {})
            envelope = self._envelope(self._read(path, {**query, **paging}))
            data = envelope.get("data")
            if not isinstance(data, list):
                raise Rejected(f"NexHealth answered {_resource(path)} with no list")
            yield [cast("Row", row) for row in data if isinstance(row, dict)]
            info = envelope.get("page_info")
            following = str(info.get("end_cursor") or "") if isinstance(info, dict) else ""
            if not isinstance(info, dict) or not info.get("has_next_page"):
                return
            if following in ("", cursor):
                raise Rejected(f"NexHealth's list {_resource(path)} gives no next page")
            cursor = following
        raise Rejected(f"NexHealth's list {_resource(path)} does not end")

    def _read(self, path: str, query: Mapping[str, str]) -> httpx2.Response:
        try:
            answer = self._send("GET", path, {"params": {**self._scope, **query}})
        except httpx2.RequestError as error:
            raise _away(error) from error
        if answer.status_code >= 500:
            raise Retryable(f"NexHealth failed ({answer.status_code})", retry_after_s=15.0)
        if not answer.is_success:
            raise _failure(answer)
        return answer

    def _send(self, method: str, path: str, options: Mapping[str, object]) -> httpx2.Response:
        """Send with a token; one that was refused is renewed once, before anything is done."""
        answer = self._client.request(method, path, headers=self._bearer(), **options)  # type: ignore[arg-type]
        if answer.status_code == 401:
            with self._lock:
                self._token = None
            answer = self._client.request(method, path, headers=self._bearer(), **options)  # type: ignore[arg-type]
        return answer

    def _bearer(self) -> dict[str, str]:
        with self._lock:
            known = self._token
        if known is None or time.monotonic() - known[0] > _TOKEN_S:
            known = (time.monotonic(), self._authenticate())
            with self._lock:
                self._token = known
        return {"Authorization": f"Bearer {known[1]}"}

    def _authenticate(self) -> str:
        try:
            answer = self._client.post(
                "/authenticates", headers={"Authorization": self._settings.api_key}
            )
        except httpx2.RequestError as error:
            raise _away(error) from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Retryable("NexHealth gives no token now", retry_after_s=15.0)
        if not answer.is_success:
            raise ConfigError("NexHealth refuses the API key (pms.customer_key)")
        data = self._envelope(answer).get("data")
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str):
            raise Rejected("NexHealth answered without a token")
        return token

    def _envelope(self, answer: httpx2.Response) -> dict[str, object]:
        try:
            value: object = answer.json()
        except (ValueError, RecursionError) as error:
            raise Retryable("NexHealth's answer is cut off") from error
        if not isinstance(value, dict) or "data" not in value:
            raise Rejected("NexHealth answered without its envelope")
        return value

    @property
    def _scope(self) -> dict[str, str]:
        return {"subdomain": self._settings.subdomain, "location_id": self._settings.location}


def _resource(path: str) -> str:
    return path.strip("/").split("/")[0]


def _away(error: Exception) -> OfficeAway:
    return OfficeAway(f"NexHealth does not answer ({type(error).__name__})", retry_after_s=15.0)


def _failure(answer: httpx2.Response) -> BitewingError:
    said = _sentence(answer)
    match answer.status_code:
        case 401 | 403:
            return ConfigError(f"NexHealth refuses the key or the location: {said}")
        case 404:
            return NotFound(f"NexHealth: {said}")
        case 429:
            return OfficeAway("NexHealth asks to wait", retry_after_s=60.0)
        case _:
            return Rejected(f"NexHealth: {said}")


def _sentence(answer: httpx2.Response) -> str:
    """Read the texts of ``error``; never the whole body, which could name somebody."""
    try:
        value: object = answer.json()
    except (ValueError, RecursionError):
        return answer.reason_phrase
    error = value.get("error") if isinstance(value, dict) else None
    texts = error if isinstance(error, list) else [error]
    said = "; ".join(without_names(str(text)) for text in texts if text)
    return said[:300] or answer.reason_phrase
