"""Gives the event loop back during a long evaluation, so that other requests continue."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

R = TypeVar("R")
STEPS_OF_A_TURN = 500  # evaluated conditions, about a millisecond


@dataclass(slots=True)
class Yielder:
    steps: int = 0

    def is_due(self, steps: int) -> bool:
        """Count steps; True when the turn is full: then `await asyncio.sleep(0)`."""
        self.steps += steps
        if self.steps < STEPS_OF_A_TURN:
            return False
        self.steps = 0
        return True


async def filter_rows(rows: Iterable[R], matches: Callable[[R], bool], steps: int) -> list[R]:
    """The rows that match. `steps`: how many conditions are evaluated per row."""
    matching, yielder = [], Yielder()
    for row in rows:
        if matches(row):
            matching.append(row)
        if yielder.is_due(steps):
            await asyncio.sleep(0)
    return matching
