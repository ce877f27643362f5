"""Curve SuperHero through its unified REST partner NexHealth.

Curve's own partner API is under a non-disclosure agreement, so nothing of it is here; what is
written follows NexHealth's published reference (version v20240412) and was tried against our
sandbox of it only.
"""

from pms_writeback.curve.adapter import Curve
from pms_writeback.curve.connection import NexHealthSettings

__all__ = ["Curve", "NexHealthSettings"]
