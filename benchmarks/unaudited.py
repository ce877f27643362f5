"""A node that writes no audit, for measuring what the audit costs; never for anything else.

Run: ``python -m benchmarks.unaudited serve --config …``, as ``bitewing``.
"""

from __future__ import annotations

from node.__main__ import main
from node.db import audit
from node.web.read_log import ReadLog

if __name__ == "__main__":
    audit.append = lambda conn, *entries: None
    ReadLog.note = lambda *about, **detail: None  # type: ignore[method-assign]
    main()
