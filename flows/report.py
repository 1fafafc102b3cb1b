"""A run's manifest as tables: for the terminal and for Prefect's pages. Pure text; knows no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.engine import Steps
from flows.logs import logged_only
from flows.narration import duration
from flows.servers import addresses

Manifest = Mapping[str, Any]
Row = dict[str, str]

METRICS = ("ndcg_at_10", "recall_at_20", "mrr_at_10", "hit_rate_at_10", "coverage_at_10", "novelty_at_10")
"""The columns of the metrics table, where a run has them."""
RIGHT = ("rows", "time", "rows/s", "memory")
"""Columns of the stages' table that are numbers."""
_VERDICTS = {
    "promote": "There is a new champion.",
    "first": "There is a first champion.",
    "keep": "The champion stays.",
    "unchanged": "The champion serves again.",
}
"""What is said of a decision that comes without a reason."""


def stage_rows(manifest: Manifest) -> list[Row]:
    """One row per stage: name, rows, time, rows a second, memory of all processes, whether it was reused."""
    return [
        {
            "stage": stage["stage"],
            "rows": f"{stage['rows']:,}" if stage.get("rows") is not None else "",
            "time": duration(stage["seconds"]) if stage["seconds"] >= 60 else f"{stage['seconds']:.1f} s",
            "rows/s": f"{stage['rows_per_second']:,.0f}" if stage.get("rows_per_second") else "",
            "memory": memory(stage.get("peak_rss_bytes")),
            "": "failed" if stage.get("error") else "reused" if stage.get("reused") else "",
        }
        for stage in manifest.get("stages", ())
    ]


def memory(size: int | None) -> str:
    """Bytes as people read them; empty where nothing is known."""
    if not size:
        return ""
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def cost_line(manifest: Manifest) -> str:
    """What the run took: its time, and the most memory that its processes held together."""
    parts = [f"{duration(manifest['seconds'])} in all"] if manifest.get("seconds") is not None else []
    parts += [f"at most {memory(peak)} of memory"] if (peak := manifest.get("peak_rss_bytes")) else []
    return ", ".join(parts)


def metric_rows(manifest: Manifest) -> list[Row]:
    """One row per model, best first by the first metric."""
    models: Mapping[str, Mapping[str, float]] = manifest.get("metrics") or {}
    names = [name for name in METRICS if any(name in figures for figures in models.values())]
    if not names:  # a run that measured something else
        names = sorted({name for figures in models.values() for name in figures})[:6]
    ranked = sorted(models.items(), key=lambda item: -(item[1].get(names[0]) or 0.0)) if names else []
    winner = (manifest.get("decision") or {}).get("winner")
    return [
        {"model": f"{model} ★" if model == winner else model, **{name: _figure(figures.get(name)) for name in names}}
        for model, figures in ranked
    ]


def decision_line(manifest: Manifest) -> str:
    """The decision and its reason, in a sentence or two."""
    decision = manifest.get("decision") or {}
    if not decision:
        return "No decision: the run did not come that far."
    return str(decision.get("reason") or _VERDICTS.get(decision.get("outcome", ""), "It was decided."))


def difference_text(decision: Mapping[str, Any]) -> str:
    """A summary's difference between challenger and champion, with its interval; empty where there is none."""
    names = {"mean": "difference", "low": "difference_low", "high": "difference_high"}
    sides = {side: decision.get(name) for side, name in names.items()}
    return _interval(None if None in sides.values() else sides)


def run_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Past nights: how each ended, what was decided and why, and the figures of its best model."""
    decisions = [run.get("decision") or {} for run in runs]
    metric = next((d["metric"] for d in decisions if d.get("metric")), METRICS[0])
    return [
        {
            "run": run["run_id"],
            "night": run["run_date"],
            "time": duration(run["seconds"]) if run.get("seconds") is not None else "",
            "outcome": decision.get("outcome") or run["status"].lower(),
            "serves": decision.get("serves") or "",
            metric: _figure(run["metrics"].get(metric)),
            "difference": difference_text(decision),
            "why": decision.get("brief") or decision.get("reason") or "",
        }
        for run, decision in zip(runs, decisions, strict=True)
    ]


def kept(manifest: Manifest) -> bool:
    """Whether the gate kept the champion."""
    return (manifest.get("decision") or {}).get("outcome") == "keep"


def night_figures(manifest: Manifest) -> tuple[dict[str, float], dict[str, str]]:
    """The best model's figures, and what was decided: what lists of nights show."""
    decision = manifest.get("decision") or {}
    best = decision.get("winner") or decision.get("challenger") or ""
    figures = (manifest.get("metrics") or {}).get(best, {})
    tags = {"outcome": decision.get("outcome", ""), "best": best, "status": manifest.get("status", "")}
    generation = (manifest.get("publication") or {}).get("generation", "")
    known = {f"marquee.{name}": text for name, text in {**tags, "generation": generation}.items() if text}
    return {name: value for name, value in figures.items() if value is not None}, known


def quarantine_line(manifest: Manifest) -> str:
    """How many rows were put aside."""
    quarantined = manifest.get("quarantined")
    total = sum(quarantined.values()) if isinstance(quarantined, Mapping) else quarantined
    return f"{total or 0:,} rows quarantined"


def leave_artifacts(manifest: Manifest, steps: Steps) -> None:
    """Show the run on Prefect's pages. The night does not depend on it."""
    if steps.name != "prefect":
        return
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    with logged_only("the artifacts could not be left with Prefect"):
        create_table_artifact(key="stages", table=_table(stage_rows(manifest)), description="What each stage did")
        create_table_artifact(key="metrics", table=_table(metric_rows(manifest)), description="Every model, same users")
        create_table_artifact(key="gate", table=_table(gate_rows(manifest)), description="What the gate found of each")
        create_markdown_artifact(key="decision", markdown=markdown(manifest), description="The decision and its reason")


def markdown(manifest: Manifest) -> str:
    """The decision, and where to look on."""
    publication = manifest.get("publication") or {}
    link = mlflow_link(manifest)
    lines = [
        f"## {_heading(manifest)}",
        decision_line(manifest),
        "",
        f"- run `{manifest.get('run_id')}` for {manifest.get('run_date')}, {quarantine_line(manifest)}",
        *([f"- {cost}"] if (cost := cost_line(manifest)) else []),
        f"- published generation `{publication.get('generation', 'none')}`: {publication.get('rows', 0):,} rows at "
        f"`{publication.get('path', '')}`",
    ]
    if link:
        lines.append(
            f"- [the night in MLflow]({link})" if link.startswith("http") else f"- the night in MLflow: {link}"
        )
    return "\n".join(lines)


def _heading(manifest: Manifest) -> str:
    decision = manifest.get("decision") or {}
    served = f", {decision['serves']} serves" if decision.get("serves") else ""
    return f"Decision: {decision.get('outcome', 'none')}{served}"


def gate_rows(manifest: Manifest) -> list[Row]:
    """One row per candidate, best first: its figure, its difference to the champion, which guardrails it failed."""
    decision = manifest.get("decision") or {}
    return [
        {
            "model": verdict["family"],
            decision["metric"]: _figure(verdict["value"]),
            "against the champion": _interval(verdict.get("against_champion")),
            "refused for": "; ".join(g["text"] for g in verdict["guardrails"] if not g["passed"]),
        }
        for verdict in decision.get("verdicts", ())
    ]


def mlflow_link(manifest: Manifest) -> str:
    """The night's page in MLflow where a server shows it, else the run's id."""
    stages = {stage["stage"]: stage for stage in manifest.get("stages", ())}
    details = stages.get("tracking", {}).get("details") or {}
    server = addresses(Path(manifest["home"])).get("MLflow") if manifest.get("home") else None
    if details.get("url"):
        return str(details["url"])
    if server and details.get("experiment_id"):
        return f"{server}/#/experiments/{details['experiment_id']}/runs/{details['run_id']}"
    return f"run {details['run_id']}" if details.get("run_id") else ""


def _table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{name or "note": value for name, value in row.items()} for row in rows]


def _interval(interval: Mapping[str, Any] | None) -> str:
    return "" if interval is None else "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**interval)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
