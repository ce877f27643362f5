"""Dentrix G-series behind a bridge: its public views, what they mean, and an invented practice."""

from pms_writeback.dentrix.shapes import DentrixShapes

__all__ = ["DentrixShapes"]
