"""How this software names itself in associations and in the files it writes (PS3.7 D.3.3.2)."""

from __future__ import annotations

import uuid

#: Ours, under the UUID-derived root that anyone may use (PS3.5 B.2).
IMPLEMENTATION_CLASS_UID = (
    f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'https://bitewing.invalid/implementation').int}"
)
IMPLEMENTATION_VERSION_NAME = "BITEWING_0_1"
