"""Prefect tasks: thin adapters between flows and the system in ``recsys``."""
