"""What commands print for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from flows import report
from flows.display import table

if TYPE_CHECKING:
    from flows.engine import Outcome
    from flows.plan import PlannedStep

SAMPLE_USERS = 5


def night_view(console: Console, outcome: Outcome) -> None:
    """A night's end: stages, metrics, decision, five users' lists, where to look on."""
    manifest = outcome.result
    console.print()
    console.print(table("Stages", report.stage_rows(manifest), right=report.RIGHT))
    parts = (report.quarantine_line(manifest), _reused(manifest), report.cost_line(manifest))
    console.print("; ".join(part for part in parts if part), markup=False)
    console.print()
    metrics = report.metric_rows(manifest)
    if metrics:
        console.print(table("Every candidate on the same test window", metrics, right=list(metrics[0])[1:]))
        console.print()
    console.print("[bold]Decision[/] ", end="")
    console.print(report.decision_line(manifest), markup=False)
    _sample_lists(console, outcome)
    _look_next(console, outcome)


def _reused(manifest: Mapping[str, Any]) -> str:
    names = [stage["stage"] for stage in manifest.get("stages", ()) if stage.get("reused")]
    return f"reused: {', '.join(names)}" if names else "nothing was reused"


def _sample_lists(console: Console, outcome: Outcome) -> None:
    from recsys import look

    home = outcome.run.home
    for user_id in look.sample_users(home, SAMPLE_USERS):
        console.print()
        list_view(console, look.recommended(home, user_id).model_dump(mode="json"), length=5)


def list_view(console: Console, shown: Mapping[str, Any], *, length: int | None = None) -> None:
    """One user's list, or the titles similar to one."""
    rows = [
        {
            "": str(line["rank"]),
            "title": line["title"],
            "score": f"{line['score']:.3f}",
            "why": line.get("reason") or "",
        }
        for line in shown["lines"][:length]
    ]
    console.print(table(shown["heading"], rows, right=("", "score")))


def _look_next(console: Console, outcome: Outcome) -> None:
    manifest = outcome.result
    publication = manifest.get("publication") or {}
    rows = [
        ("Published", publication.get("path", "nothing")),
        ("Model", f"{publication.get('model_version', '')}"),
        ("Records", str(outcome.run.folder)),
        ("MLflow", report.mlflow_link(manifest)),
        ("In a browser", _servers_hint(outcome)),
        ("Licence", str(manifest.get("licence") or "")),
        ("Citation", str(manifest.get("citation") or "")),
        ("Note", outcome.note or ""),
    ]
    console.print()
    console.print("[bold]What to look at next[/]")
    for name, text in rows:
        if text:
            console.print(f"  {name:<16} {escape(text)}", soft_wrap=True)


def _servers_hint(outcome: Outcome) -> str:
    from flows.servers import addresses

    running = addresses(outcome.run.home)
    if running:
        return ", ".join(f"{name} {url}" for name, url in running.items())
    return "`marquee up` shows this night and every other in Prefect and MLflow"


def part_view(console: Console, outcome: Outcome) -> None:
    """A part's end."""
    result = outcome.result
    if "stages" in result:
        night = dict(result)
        console.print(table("Stages", report.stage_rows(night), right=report.RIGHT))
        if result.get("decision"):
            console.print(report.decision_line(night), markup=False)
        path = (result.get("publication") or {}).get("path")
        console.print(f"published {path}" if path else "nothing published", markup=False, soft_wrap=True)
    else:
        rows = ", ".join(f"{name} {count:,}" for name, count in result["rows"].items())
        console.print(f"{result['kind']} {result['digest']}: {rows}", markup=False, soft_wrap=True)
        console.print(result["path"], markup=False, soft_wrap=True)
    if outcome.note:
        console.print(outcome.note, markup=False, soft_wrap=True)


def plan_view(console: Console, plan: Sequence[PlannedStep]) -> None:
    """A dry run."""
    rows = [{"step": step.step, "plan": step.plan, "artefact": step.artefact} for step in plan]
    console.print(table("What `marquee nightly` would do", rows))


def rows_view(console: Console, title: str, rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Records as a table, whatever their fields."""
    if not rows:
        console.print(empty, markup=False)
        return
    shown = [{name: cell(value) for name, value in row.items()} for row in rows]
    numbers = [
        name for name, value in rows[0].items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    console.print(table(title, shown, right=numbers))


def runs_view(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    """Past nights: when, what was decided, by what difference and why."""
    if not runs:
        console.print("There are no runs yet: `marquee nightly` makes one.", markup=False)
        return
    rows = report.run_rows(runs)
    console.print(table("Runs", rows, right=("time", list(rows[0])[5], "difference")))
    reason = next((run["decision"]["reason"] for run in runs if (run.get("decision") or {}).get("reason")), None)
    if reason:
        console.print(f"\nThe last decision: {reason}", markup=False)


def comparison_view(console: Console, comparison: Mapping[str, Any]) -> None:
    """Two versions side by side, and the interval of their difference."""
    a, b = (f"version {comparison[side]['version']} ({comparison[side]['family']})" for side in ("a", "b"))
    rows = [{"": name, a: cell(pair[0]), b: cell(pair[1])} for name, pair in comparison["metrics"].items()]
    console.print(table("Side by side", rows, right=(a, b)))
    console.print(f"\n{comparison['verdict']}", markup=False)
    if comparison["difference"] is not None:
        console.print(
            f"{comparison['metric']}: {comparison['difference']:+.4f} "
            f"[{comparison['low']:+.4f}, {comparison['high']:+.4f}] at {comparison['confidence']:.0%}, "
            f"{comparison['users']:,} users, b less a",
            markup=False,
        )
    for note in comparison["notes"]:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(inner) for inner in value)
    return str(value)


def record_view(console: Console, record: Mapping[str, Any]) -> None:
    """One record, a line per field."""
    for name, value in record.items():
        console.print(f"{name:<18} {cell(value)}", markup=False, soft_wrap=True)
