"""The commands about models and data: past runs, comparisons, promotion, evaluation, made-up services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.session import ConfigOption, HomeOption, JsonOption, start

VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A version's number, or an alias.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (runs, compare, promote, evaluate, synth):
        app.command()(command)


def runs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="The latest so many.")] = 20,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List past runs and their metrics, the latest first."""
    from flows.display import output
    from flows.views import runs_view

    session = start(config, home, json)
    with session.quiet():
        from tasks.registry import past_runs

        rows = [run.model_dump(mode="json") for run in past_runs(session.config, limit)]
    session.show(rows, lambda: runs_view(output(), rows))


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A version's number, or an alias such as champion.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Put two versions side by side, with the confidence interval of their difference."""
    from flows.display import output
    from flows.views import comparison_view

    session = start(config, home, json)
    with session.quiet():
        from tasks.registry import compare_versions

        comparison = compare_versions(session.config, a, b).model_dump(mode="json")
    session.show(comparison, lambda: comparison_view(output(), comparison))


def promote(
    version: VersionArgument, config: ConfigOption = None, home: HomeOption = None, json: JsonOption = False
) -> None:
    """Make a version the champion; who was champion becomes `previous`."""
    from flows.display import output
    from flows.views import record_view
    from recsys import lock

    session = start(config, home, json)
    with session.quiet(), lock.hold(session.home, f"promote-{version}"):
        from tasks.registry import promote_version

        promoted = promote_version(session.config, version).model_dump(mode="json")
    session.show(promoted, lambda: record_view(output(), promoted))


def evaluate(
    train: Annotated[
        str | None, typer.Option("--train", metavar="FILE", help="Ratings to learn from (CSV, TSV, Parquet).")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="FILE", help="Ratings to be foreseen.")] = None,
    titles: Annotated[str | None, typer.Option("--titles", metavar="FILE", help="The titles' metadata.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="STRATEGY", help="How the configured source is split.")
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            "--models", metavar="A,B", help="Which models, with commas between; module:attribute for one of your own."
        ),
    ] = "popularity,ease,ials",
    budget: Annotated[
        int | None, typer.Option("--budget", min=1, help="Most settings tried per rival (default: all of its grid).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the report there, as JSON.")] = None,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure models over the full ranking: on the configured source, or on a split of your own (--train, --test)."""
    from flows.display import output, showing
    from flows.ring_view import check_options, ring_view

    strategy = check_options(train=train, test=test, titles=titles, split=split)
    session = start(config, home, json)
    session.home.mkdir(parents=True, exist_ok=True)  # Prefect, which the steps import, looks for it
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    with session.quiet(), showing(output(error=session.as_json)):
        from tasks.evaluate import evaluate_files, evaluate_source

        if train is not None and test is not None:
            report = evaluate_files(
                session.config, train=train, test=test, titles=titles, models=names, budget=budget, out=out
            )
        else:
            report = evaluate_source(session.config, models=names, strategy=strategy, budget=budget, out=out)
    session.show(report["models"], lambda: ring_view(output(), report))


def synth(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Directory for ratings and titles.")],
    users: Annotated[int, typer.Option("--users", min=1)] = 2_000,
    items: Annotated[int, typer.Option("--titles", min=1)] = 1_000,
    interactions: Annotated[int, typer.Option("--ratings", min=1)] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same files.")] = 0,
    parquet: Annotated[bool, typer.Option("--parquet", help="Parquet instead of CSV.")] = False,
    config: ConfigOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Write a synthetic service: ratings and titles as files, to read with `source.kind = "files"`."""
    from flows.display import output
    from flows.views import record_view

    session = start(config, home, json)
    from recsys.data.synthetic import write_synthetic

    ratings, titles = write_synthetic(
        out, users=users, items=items, interactions=interactions, seed=seed, format="parquet" if parquet else "csv"
    )
    shown = {"ratings": str(ratings), "titles": str(titles)}
    session.show(shown, lambda: record_view(output(), shown))
