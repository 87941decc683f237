"""How long work shows where it is."""

import time

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gateway.services.imports import Progress


class ImportBar:
    """A progress bar with rate and time left."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=None, rows="")
        self._started = time.monotonic()

    def __enter__(self) -> "ImportBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show how far the import is."""
        rows = progress.added + progress.duplicates + progress.rejected
        rate = rows / max(time.monotonic() - self._started, 0.001)
        told = f"{rows} rows, {rate:.0f}/s, {progress.rejected} rejected" if rows else ""
        self._bar.update(
            self._task, description=progress.phase, total=progress.bytes_total, completed=progress.bytes_done, rows=told
        )
