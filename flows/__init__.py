"""Flows, settings, command line: they wire, and know nothing of tensors and tables."""
