"""Turns of the event loop: a long evaluation gives it back again and again, so that other requests go on meanwhile."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.store.driver import Document

STEPS_OF_A_TURN = 500  # evaluated conditions, about a millisecond


@dataclass(slots=True)
class Yielder:
    """Counts the steps of one evaluation."""

    steps: int = 0

    def is_due(self, steps: int) -> bool:
        """Whether so many further steps fill a turn: then `await asyncio.sleep(0)`."""
        self.steps += steps
        if self.steps < STEPS_OF_A_TURN:
            return False
        self.steps = 0
        return True


async def filter_rows(rows: Iterable[Document], holds: Callable[[Document], bool], steps: int) -> list[Document]:
    """The rows of which it holds; `steps`: how many conditions are evaluated of each."""
    kept, yielder = [], Yielder()
    for row in rows:
        if holds(row):
            kept.append(row)
        if yielder.is_due(steps):
            await asyncio.sleep(0)
    return kept
