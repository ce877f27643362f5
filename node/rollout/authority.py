"""Which right a change of the roll-out asks for."""

from __future__ import annotations

from node.domain.rights import Right
from node.domain.rollout import Area, RollMode, Subject


def right_for(subject: Subject, mode: RollMode) -> Right:
    """Name the right: letting findings and tags in is clinical, workflows are the manager's.

    Making anything silent asks for no more than the switch.
    """
    if mode is RollMode.SILENT or subject.area is Area.WORKFLOW:
        return Right.ROLLOUT_SWITCH
    return Right.ROLLOUT_LEAD
