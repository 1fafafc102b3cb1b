"""The registered model as MLflow serves it: a models-from-code file, kept with every version (no pickle).

It answers rows of ``user_id`` (a user known when it was fitted) or ``history`` (item ids, oldest first: anyone).
Imports nothing of ours but ``recsys``, of which each version carries its own copy. Annotations are not postponed here:
MLflow reads them as types.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from recsys.bundle import Answer, Bundle, load_bundle
from recsys.families import load_scorer

DEFAULT_N = 20


class Recommender(PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """Top-n lists from a bundle.

    A row's non-empty ``history`` counts before its ``user_id``. An unknown user, an empty row and a history of
    unknown titles get popular titles; unknown titles in a history are ignored. ``basis`` says which it was.
    """

    bundle: Bundle

    def load_context(self, context: Any) -> None:
        """Open the bundle that was kept with the version, its checksums verified."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]), load_scorer=load_scorer)
        _ = self.bundle.serving  # now, not at the first request

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Lists for every row.

        Args:
            context: MLflow's; unused.
            model_input: a frame with the columns ``user_id`` (text) and ``history`` (list of text), either or both.
            params: ``n``, the length of a list (20).

        Returns:
            a frame with ``item_ids`` and ``scores`` (lists, best first) and ``basis``: user, history or popular.

        Raises:
            MlflowException: a request that cannot be understood, with what is wrong in it.
        """
        n = int((params or {}).get("n", DEFAULT_N))
        if n < 1 or not {"user_id", "history"} & set(model_input.columns):
            raise _refusal(f"n is {n}, and must be at least 1" if n < 1 else "rows need a user_id or a history")
        return lists(self.bundle, model_input, n)


def lists(bundle: Bundle, rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """The answer frame for request rows (see :meth:`Recommender.predict`)."""
    histories = [_history(value) for value in _column(rows, "history")]
    user_ids = [_user_id(value) for value in _column(rows, "user_id")]
    visitors = [place for place, history in enumerate(histories) if history]
    users = [place for place, history in enumerate(histories) if not history]
    answers: dict[int, tuple[str, Answer]] = {}
    for basis, places, found in (
        ("history", visitors, bundle.score_users([histories[place] for place in visitors], n)),
        ("user", users, bundle.answer_users([user_ids[place] for place in users], n)),
    ):
        answers |= {
            place: ("popular" if answer.popular else basis, answer) for place, answer in zip(places, found, strict=True)
        }
    ordered = [answers[place] for place in range(len(rows))]
    return pd.DataFrame(
        {
            "item_ids": pd.Series([answer.item_ids for _, answer in ordered], dtype=object),
            "scores": pd.Series([answer.scores for _, answer in ordered], dtype=object),
            "basis": pd.Series([basis for basis, _ in ordered], dtype=object),
        }
    )


def _column(rows: pd.DataFrame, name: str) -> Sequence[Any]:
    return rows[name].tolist() if name in rows.columns else [None] * len(rows)


def _user_id(value: Any) -> str | None:
    return None if value is None or (not isinstance(value, str) and pd.isna(value)) else str(value)


def _history(value: Any) -> list[str]:
    if isinstance(value, str | bytes | Mapping):
        raise _refusal(f"history must be a list of item ids, not {type(value).__name__}: write ['50'], not '50'")
    if not hasattr(value, "__iter__"):
        return []  # None or NaN: the row has none
    return [str(item_id) for item_id in value if item_id is not None]


def _refusal(what: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(what)


mlflow.models.set_model(Recommender())
