"""Run the sandbox: ``python -m pms_writeback.sandbox --port N --db FILE --seed-cast``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.errors import BitewingError, outcome
from pms_writeback.sandbox.app import CUSTOMER_KEY, DEVELOPER_KEY
from pms_writeback.sandbox.server import DEFAULT_PORT, serve
from pms_writeback.sandbox.sftp import sftp_serving


def main() -> int:
    """Read the command line and serve; the exit code is that of the error's family."""
    parser = argparse.ArgumentParser(prog="pms_writeback.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--db", type=Path, default=Path("sandbox-pms.sqlite"))
    parser.add_argument("--time-zone", default="America/New_York")
    parser.add_argument("--developer-key", default=DEVELOPER_KEY)
    parser.add_argument("--customer-key", default=CUSTOMER_KEY)
    parser.add_argument("--seed-cast", action="store_true", help="add the invented practice")
    parser.add_argument("--patients", type=int, default=40, help="how many patients it has")
    parser.add_argument("--years", type=int, default=0, help="years of past visits it has")
    parser.add_argument(
        "--page-cap", type=int, default=100, help="rows a page: 100 remote, 1000 local service"
    )
    parser.add_argument("--od-version", default="25.3.36", help="the version the office runs")
    parser.add_argument(
        "--throttle-s", type=float, default=0.0, help="least seconds between requests; 0: none"
    )
    parser.add_argument(
        "--sftp-folder", type=Path, help="serve this folder by SFTP, and reach it there"
    )
    parser.add_argument("--sftp-port", type=int, default=2222)
    options = parser.parse_args()
    try:
        with _sftp(options.sftp_folder, options.sftp_port) as sftp_port:
            serve(
                options.db,
                host=options.host,
                port=options.port,
                customer_key=options.customer_key,
                developer_key=options.developer_key,
                time_zone=options.time_zone,
                seed_cast=options.seed_cast,
                patients=options.patients,
                years=options.years,
                page_cap=options.page_cap,
                od_version=options.od_version,
                throttle_s=options.throttle_s,
                sftp_port=sftp_port,
            )
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    return 0


@contextmanager
def _sftp(folder: Path | None, port: int) -> Iterator[int]:
    """Serve a folder by SFTP and say how to reach it; gives the port at which the office does."""
    if folder is None:
        yield 22
        return
    with sftp_serving(folder, port=port) as site:
        sys.stderr.write(
            f"[pms]\nsftp_host = {site.host!r}\nsftp_port = {site.port}\n"
            f"sftp_user = {site.user!r}\nsftp_password = {site.password!r}\n"
            f"sftp_host_key = {site.host_key!r}\n"
        )
        yield site.port


if __name__ == "__main__":
    sys.exit(main())
