"""The model card: what a version is, how good it is and against what, where it must not be trusted, how to load it."""

from __future__ import annotations

from recsys.bundle import BundleInfo, Comparison

FAMILIES = {
    "ncf": "Neural collaborative filtering: a network that ranks what a user autoencoder and closed-form towers "
    "retrieve, over their scores, the user's and the title's vectors and the title's content.",
    "user_autoencoder": "A variational autoencoder of users: it reads a history and predicts what comes next.",
    "content_cnn": "A convolutional network over titles' text, in the space of title vectors.",
    "ease": "EASE (Steck, 2019): a closed-form linear item-item model.",
    "ease_recency": "EASE (Steck, 2019), a closed-form linear item-item model, fed with recency-weighted histories.",
    "order_ridge": "A closed-form linear model of what follows what.",
    "ials": "Implicit alternating least squares (Hu et al., 2008).",
    "ials_recency": "Implicit alternating least squares (Hu et al., 2008), over recency-weighted histories.",
    "blend": "A weighted sum of towers' scores, weights chosen on the validation window.",
    "item_knn": "Nearest titles by co-occurrence.",
    "popularity": "The most popular titles, the same for everyone.",
    "recent_popularity": "What is popular now, the same for everyone.",
}
HEADLINES = ("ndcg_at_10", "recall_at_20", "ndcg_at_100", "coverage_at_10")
LIMITS = """\
- It has learnt what people of this service watched, with all that steered them (what was shown, promoted, available):
  what is popular stays popular, and a taste that few share is served less well.
- Figures are offline and of users with a past. They rank models; they do not promise that viewers are pleased.
- A title without any interaction is reached through its text alone, a user without any gets popular titles.
- It knows nothing after its run date: titles added since are ignored in a history and never listed.
- Availability, regions and blocked titles are as they were on its run date."""


def model_card(info: BundleInfo, *, model_name: str, digest: str, reason: str = "") -> str:
    """The card, as Markdown.

    Args:
        info: the bundle's own facts.
        model_name: the registered model.
        digest: of the bundle.
        reason: why it was, or was not, made the champion.
    """
    parts = [
        f"# {model_name}: {info.family}, {info.run_date}",
        FAMILIES.get(info.family, f"A model of the family {info.family}."),
        _section("Data", _data(info)),
        _section("Figures", _figures(info)),
        _section("Against its rivals", "\n".join(_comparison(c) for c in info.comparisons)),
        _section("Decision", reason),
        _section("Known limits", LIMITS),
        _section("How to load it", _loading(model_name)),
        f"Bundle {digest}, seed {info.seed}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(name: str, text: str) -> str:
    return f"## {name}\n\n{text}" if text else ""


def _data(info: BundleInfo) -> str:
    order = "in time order" if info.ordered else "without time (no timestamps, so the split is random)"
    lines = [
        f"- {info.n_users:,} users, {info.n_items:,} titles, histories {order}.",
        f"- Positive from a rating of {info.positive_from:g}; implicit interactions always are.",
        f"- Licence: {info.licence or 'not stated by the source'}.",
    ]
    if info.citation:
        lines.append(f"- Cite: {' '.join(info.citation.split())}")
    return "\n".join(lines)


def _figures(info: BundleInfo) -> str:
    split = info.split
    told = (
        f"Full ranking of all unseen titles, no sampled negatives. Split: {split.strategy}, {split.test_fraction:.0%} "
        f"test, {split.validation_fraction:.0%} of the rest validation. Measured on a copy that never saw the test "
        "window; what serves is the same model refitted on everything."
    )
    rows = {info.family: info.metrics, **{name: m for name, m in info.rivals.items() if name != info.family}}
    names = [name for name in HEADLINES if any(name in metrics for metrics in rows.values())]
    if not names:
        return told
    ranked = sorted(rows.items(), key=lambda row: (-row[1].get(names[0], float("-inf")), row[0]))
    table = [f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, metrics in ranked:
        label = f"**{name}**" if name == info.family else name
        table.append(f"| {label} | {' | '.join(_cell(metrics, metric) for metric in names)} |")
    return told + "\n\n" + "\n".join(table)


def _cell(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "–"


def _comparison(comparison: Comparison) -> str:
    verdict = "better" if comparison.low > 0 else "worse" if comparison.high < 0 else "not told apart"
    return (
        f"- {comparison.rival}: {comparison.metric} {comparison.difference:+.4f} "
        f"[{comparison.low:+.4f}, {comparison.high:+.4f}] at {comparison.confidence:.0%}, paired on users: {verdict}."
    )


def _loading(model_name: str) -> str:
    return f"""\
```python
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/{model_name}@champion")
model.predict(pd.DataFrame({{"user_id": ["42"]}}))                             # a user known when it was fitted
model.predict(pd.DataFrame({{"history": [["50", "181"]]}}), params={{"n": 5}})   # anyone: item ids, oldest first
```
It loads without pickle (`MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`) and brings its own code."""
