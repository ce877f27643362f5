"""One bucket: put, look, fetch, remove, each in our own errors. Wants the extra ``objects``."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from node.config import ObjectsSection
from node.db.session import new_id
from node.domain.destinations import Reach
from node.errors import ConfigError, InvalidInput, NotFound, Retryable
from node.objects.door import open_pool
from node.outgoing import Resolve, resolve_host

_CHUNK_BYTES = 1 << 18
#: Where every object says the SHA-256 of its bytes.
_DIGEST = "x-amz-meta-sha256"
_REFUSED = frozenset(
    {
        "AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId", "InvalidBucketName", "NoSuchBucket", "PermanentRedirect",
        "RequestTimeTooSkewed", "SignatureDoesNotMatch",
    }
)  # fmt: skip


class Bucket:
    """The bucket of a configuration; may be used by many threads."""

    #: What is larger goes up in parts of this size, each held in memory once.
    part_bytes = 64 << 20

    def __init__(
        self, section: ObjectsSection, reach: Reach, resolve: Resolve = resolve_host
    ) -> None:
        scheme, _, host = section.endpoint.partition("://")
        self._bucket = section.bucket
        self._prefix = section.prefix
        self._client = Minio(
            host,
            section.access_key.get_secret_value(),
            section.secret_key.get_secret_value(),
            secure=scheme == "https",
            region=section.region,
            http_client=open_pool(reach, section.ca_file, resolve),
        )
        if section.path_style:
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def put(self, name: str, file: BinaryIO, size_bytes: int, sha256: str) -> None:
        """Put an object of `size_bytes` and look whether it is there whole.

        `sha256` is what its bytes ought to digest to. The server is told a checksum of the bytes
        that are sent and refuses others.

        Raises
        ------
        InvalidInput
            `file` holds other bytes than `sha256` says.
        Retryable
            It is not surely there.
        ConfigError
            The service refuses us, or may not be connected to.
        """
        digesting = _Digesting(file)
        with _told():
            self._client.put_object(
                self._bucket,
                self._prefix + name,
                digesting,  # type: ignore[arg-type]  # it reads, and no more is asked of it
                size_bytes,
                metadata={"sha256": sha256},
                part_size=self.part_bytes if size_bytes > self.part_bytes else 0,
                num_parallel_uploads=1,
            )
        if digesting.sha256 != sha256:
            raise InvalidInput("a file has other bytes than were written down")
        if not self.has(name, size_bytes, sha256):
            raise Retryable("the object store did not keep what was put into it")

    def has(self, name: str, size_bytes: int, sha256: str) -> bool:
        """Ask whether an object is there with its size and digest; raises as :meth:`put`."""
        try:
            with _told():
                found = self._client.stat_object(self._bucket, self._prefix + name)
        except NotFound:
            return False
        return found.size == size_bytes and (found.metadata or {}).get(_DIGEST) == sha256

    def fetch(self, name: str, into: BinaryIO) -> str:
        """Write an object's bytes into `into`; return their SHA-256 in hex.

        Raises NotFound when it is not there, otherwise as :meth:`put`.
        """
        digest = hashlib.sha256()
        with (
            _told(),
            closing(self._client.get_object(self._bucket, self._prefix + name)) as response,
        ):
            for chunk in response.stream(_CHUNK_BYTES):
                digest.update(chunk)
                into.write(chunk)
        return digest.hexdigest()

    def remove(self, name: str) -> None:
        """Remove an object, if it is there; raises as :meth:`put`."""
        with _told():
            self._client.remove_object(self._bucket, self._prefix + name)

    def try_out(self) -> None:
        """Put a small object, fetch it and remove it again; raises as :meth:`put`."""
        name, data = f"check/{new_id()}", new_id().encode()
        sha256 = hashlib.sha256(data).hexdigest()
        self.put(name, io.BytesIO(data), len(data), sha256)
        try:
            back = io.BytesIO()
            self.fetch(name, back)
            if back.getvalue() != data:
                raise Retryable("the object store gave other bytes than were put into it")
        finally:
            self.remove(name)


class _Digesting:
    """A file that digests what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data


@contextmanager
def _told() -> Iterator[None]:
    """Say what the client and its wire raise in our own words; none carries a name or a URL."""
    try:
        yield
    except S3Error as error:
        code = error.code or "an error"
        if code == "NoSuchKey":
            raise NotFound("the object store has no such object") from None
        if code in _REFUSED:
            raise ConfigError(
                f"the object store refuses this node ({code}): see [objects]"
            ) from None
        raise Retryable(f"the object store answered {code}", 10.0) from None
    except MinioException as error:
        raise Retryable(f"the object store failed ({type(error).__name__})", 10.0) from None
    except HTTPError as error:
        reason = getattr(error, "reason", None)
        cause = reason if isinstance(reason, Exception) else error
        raise Retryable(f"the object store is away ({type(cause).__name__})", 10.0) from None
