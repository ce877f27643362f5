"""Ask the node of this container how it is, for Docker's HEALTHCHECK; exit status 0 when well.

The page speaks HTTP, or HTTPS once [web] tls_certificate is set: then the first try says nothing.
The certificate is not checked, for the question goes to this very container.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

_TIMEOUT_S = 4.0


def status(connection: http.client.HTTPConnection) -> int:
    """Give the HTTP status of /healthz; 0 when nothing answers in this language."""
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def main() -> int:
    """Give the exit status: 0 well, 1 not."""
    port = int(os.environ.get("BITEWING_WEB_PORT", "8080"))
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sealed = http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=context)
    return 0 if (status(plain) or status(sealed)) == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
