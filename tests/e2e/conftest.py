"""Nights as an operator runs them: the command line, in processes of its own, on a small made-up service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MARQUEE = Path(sys.executable).with_name("marquee")
NO_PREFECT = "http://127.0.0.1:9/api"
SMALL = {
    "MARQUEE_SOURCE__KIND": "synthetic",
    "MARQUEE_SOURCE__USERS": "80",
    "MARQUEE_SOURCE__ITEMS": "70",
    "MARQUEE_SOURCE__INTERACTIONS": "3000",
    "MARQUEE_AUTOENCODER__EPOCHS": "3",
    "MARQUEE_CONTENT__EPOCHS": "2",
    "MARQUEE_NCF__EPOCHS": "2",
    "MARQUEE_COMPUTE__THREADS": "2",
}


class Marquee:
    """Runs commands in a home: ``marquee(home, "nightly", MARQUEE_EXPORT__N="5")``."""

    program = MARQUEE

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Ours alone: nothing of the caller's Marquee or Prefect, and no Prefect server (its own tests have one)."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "PREFECT_"))}
        return {**clean, **SMALL, "PREFECT_API_URL": NO_PREFECT, "MARQUEE_HOME": str(home), **more}

    def __call__(self, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            env=self.environment(home, **more),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )


@pytest.fixture(scope="session")
def marquee() -> Marquee:
    """The command line."""
    return Marquee()
