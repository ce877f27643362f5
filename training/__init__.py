"""Train and measure the networks of :mod:`models`; run from a checkout, never installed.

Start with ``python -m training.train --help`` and ``python -m training.evaluate --help``.
"""
