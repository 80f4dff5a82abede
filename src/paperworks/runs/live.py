"""A run's events on the terminal or in a notebook: bars where someone watches, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar

from paperworks.runs.run import Event

T = TypeVar("T")

LOG_SECONDS = 10.0
"""How often a loop's progress is printed when standard error is not a terminal."""


class LiveEvents:
    """A listener for ``Engine.execute`` that draws progress on standard error while its ``with`` block lasts."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._printed: dict[str, float] = {}
        self._started = time.monotonic()

    def __enter__(self) -> LiveEvents:
        if not self._quiet and (sys.stderr.isatty() or _in_notebook()):
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if self._quiet:
            return
        if event["kind"] == "progress":
            self._progress(event["description"], event["done"], event["total"])
        elif event["kind"] in ("step", "log", "stopping"):
            level = event.get("level", "info")
            self._line(event["text"] if level == "info" else f"{level}: {event['text']}")

    def _line(self, text: str) -> None:
        if self._bars is not None:
            from rich.text import Text

            self._bars.console.print(Text(text, style="dim"))
        else:
            print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def _progress(self, description: str, done: int, total: int | None) -> None:
        if self._bars is not None:
            if description not in self._tasks:
                self._tasks[description] = self._bars.add_task(description, total=total)
            self._bars.update(self._tasks[description], completed=done, total=total)
            if total is not None and done >= total:
                self._bars.remove_task(self._tasks.pop(description))
            return
        now = time.monotonic()
        if now - self._printed.setdefault(description, now) >= LOG_SECONDS:
            self._printed[description] = now
            self._line(f"{description}: {done} of {total or '?'}")


def _in_notebook() -> bool:
    """Whether a notebook shows what is drawn; only then is IPython loaded."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def show_progress(iterable: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """A ``Progress`` outside of a run: a bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    return track(iterable, description, total, console=Console(stderr=True), transient=True)
