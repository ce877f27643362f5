"""Run the sandbox: ``python -m pms_writeback.sandbox --port N --db FILE --seed-cast``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from node.errors import BitewingError, outcome
from pms_writeback.sandbox.app import CUSTOMER_KEY, DEVELOPER_KEY
from pms_writeback.sandbox.server import DEFAULT_PORT, serve


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
    options = parser.parse_args()
    try:
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
        )
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
