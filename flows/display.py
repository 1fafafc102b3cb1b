"""What a run looks like while it goes on: live bars in a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from flows.narration import duration, figures, sentence
from tasks.events import EpochEnded, Event, Note, RowsDone, StageEnded, StageStarted, listening

_PLAIN_EVERY_SECONDS = 10.0


@contextmanager
def showing(console: Console) -> Iterator[None]:
    """Show the events of the block: live where the console is a terminal, else line by line."""
    if not console.is_terminal:
        with listening(PlainLines(console)):
            yield
        return
    bars = Bars(console)
    with bars.progress, listening(bars):
        yield


class PlainLines:
    """Events as lines without control codes; progress within a stage at most every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        if isinstance(event, RowsDone):
            now = time.monotonic()
            if now - self._told.setdefault(event.stage, now) < _PLAIN_EVERY_SECONDS:
                return
            self._told[event.stage] = now
        self._console.print(sentence(event), markup=False, highlight=False, soft_wrap=True)


class Bars:
    """One line per stage that runs, with its epochs or rows, the latest figures, and the time left."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[so_far]:<22}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        match event:
            case StageStarted(stage):
                self._tasks[stage] = self.progress.add_task(escape(stage), total=None, so_far="", figures="")
            case EpochEnded(stage, number, total, metrics):
                self._update(stage, number, total, f"epoch {number}/{total}", figures(metrics))
            case RowsDone(stage, done, total, unit):
                self._update(stage, done, total, f"{done:,} {unit}", "")
            case Note():
                self.progress.console.print(f"  [dim]{escape(sentence(event))}")
            case StageEnded(stage):
                self._end(stage, event)

    def _update(self, stage: str, done: int, total: int | None, so_far: str, latest: str) -> None:
        if stage in self._tasks:
            self.progress.update(self._tasks[stage], completed=done, total=total, so_far=so_far, figures=escape(latest))

    def _end(self, stage: str, event: StageEnded) -> None:
        if stage in self._tasks:
            self.progress.remove_task(self._tasks.pop(stage))
        mark = "[red]✗[/]" if event.error else "[cyan]=[/]" if event.reused else "[green]✓[/]"
        how = "failed" if event.error else "reused" if event.reused else duration(event.seconds)
        rows = f"{event.rows:,} rows" if event.rows is not None else ""
        self.progress.console.print(f"{mark} {escape(stage):<22} {how:>10}  [dim]{rows}")


def output(*, error: bool = False) -> Console:
    """A console on the standard output (or error); escape codes only where it is a terminal."""
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else 140)


def table(title: str, rows: Sequence[dict[str, str]], *, right: Sequence[str] = ()) -> Table:
    """A table of rows that share their keys. Their text is taken as it is: no markup."""
    view = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        view.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        view.add_row(*(escape(value) for value in row.values()))
    return view
