"""The progress bar of long work."""

import time

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gateway.transfer.imports import Progress


class FileBar:
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

    def __enter__(self) -> "FileBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        rate = progress.rows / max(time.monotonic() - self._started, 0.001)
        rejected = f", {progress.rejected} rejected" if progress.phase == "importing" else ""
        counts = f"{progress.rows} rows, {rate:.0f}/s{rejected}" if progress.rows else ""
        self._bar.update(
            self._task, description=progress.phase, total=progress.total, completed=progress.done, rows=counts
        )
