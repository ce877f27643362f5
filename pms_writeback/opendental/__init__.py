"""Open Dental through its REST API: reading the schedule, writing signed results to the chart."""

from pms_writeback.opendental.adapter import OpenDental
from pms_writeback.opendental.connection import OpenDentalSettings

__all__ = ["OpenDental", "OpenDentalSettings"]
