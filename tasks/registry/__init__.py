"""MLflow: the night's runs, the registered model's versions, who is champion. See :mod:`tasks.registry.steps`.

With ``tasks/pyfunc_model.py`` the only importer of MLflow, and late: it takes ten seconds.
"""

from __future__ import annotations

from tasks.registry.compare import VersionComparison
from tasks.registry.promotion import Champion, Verdict
from tasks.registry.runs import ModelReport, NightSummary
from tasks.registry.steps import (
    close_night,
    compare_versions,
    current_champion,
    live_tracking,
    log_dataset_input,
    log_model_runs,
    open_night,
    past_runs,
    promote_version,
    register_model,
    rollback_champion,
    version_to_serve,
)
from tasks.registry.versions import VersionInfo

__all__ = [
    "Champion",
    "ModelReport",
    "NightSummary",
    "Verdict",
    "VersionComparison",
    "VersionInfo",
    "close_night",
    "compare_versions",
    "current_champion",
    "live_tracking",
    "log_dataset_input",
    "log_model_runs",
    "open_night",
    "past_runs",
    "promote_version",
    "register_model",
    "rollback_champion",
    "version_to_serve",
]
