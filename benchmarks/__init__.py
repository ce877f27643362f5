"""Runnable measurements; results go to docs/benchmarks.md with hardware, versions and commit."""
