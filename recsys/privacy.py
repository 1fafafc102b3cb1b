"""Names for users that may stand in logs, reports and errors."""

from __future__ import annotations

import hashlib


def hashed(user_id: str) -> str:
    """A short stable name for a user that does not show the id."""
    return "user-" + hashlib.sha256(user_id.encode()).hexdigest()[:12]
