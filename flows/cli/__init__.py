"""The command line. Each command imports what it needs when it runs, so that help comes at once."""

from flows.cli.app import main

__all__ = ["main"]
