"""Figures that take long to make, and the rivals that only they need: run as ``python -m benchmarks.x``."""
