"""Open Dental through its REST API: reading the schedule, writing signed results to the chart."""

from pms_writeback.opendental.adapter import OpenDental
from pms_writeback.opendental.connection import OpenDentalSettings
from pms_writeback.opendental.documents import ChartDocument

__all__ = ["ChartDocument", "OpenDental", "OpenDentalSettings"]
