"""Eaglesoft behind a bridge: its public tables, what they mean, and an invented practice."""

from pms_writeback.eaglesoft.shapes import EaglesoftShapes

__all__ = ["EaglesoftShapes"]
