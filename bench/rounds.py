"""Rounds: every way of doing the same in turn, several times over, and what comes of it as ratios to one of them."""

import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: the cost of one way of doing something, beside that of the way it is compared with.

    `cost` and `unit`: the median of the rounds (CPU first). `ratio`: the median of the rounds' own ratios to `beside`,
    `least` and `most` of them its spread. `rate`: what was done in a second of time, for what it is worth.
    """

    section: str
    what: str
    way: str
    cost: float
    unit: str
    beside: str
    ratio: float
    least: float
    most: float
    rate: float | None = None
    target: str | None = None
    reached: bool | None = None

    @property
    def document(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round measured of one way."""

    cost: float
    rate: float | None = None


async def in_turn(
    ways: Mapping[str, Callable[[], Awaitable[Measured]]], rounds: int, progress: Progress, what: str
) -> dict[str, list[Measured]]:
    """Each way once a round; a first round warms up and is not counted."""
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    task = progress.add_task(what, total=(rounds + 1) * len(ways))
    for number in range(rounds + 1):
        for way, measure in ways.items():
            taken = await measure()
            if number:
                found[way].append(taken)
            progress.advance(task)
    progress.remove_task(task)
    return found


def lines(
    section: str,
    what: str,
    found: Mapping[str, list[Measured]],
    beside: str,
    unit: str,
    targets: Mapping[str, tuple[str, Callable[[Mapping[str, float]], bool]]] | None = None,
) -> list[Line]:
    """The lines of what was measured, each a ratio to the way `beside` of the same round.

    `targets`: of a way, what it should reach, in words and as a judgement on the ratios of all ways."""
    ratios = {
        way: [one.cost / other.cost for one, other in zip(taken, found[beside], strict=True)]
        for way, taken in found.items()
    }
    medians = {way: statistics.median(each) for way, each in ratios.items()}
    told = []
    for way, taken in found.items():
        target, judge = (targets or {}).get(way, (None, None))
        rates = [one.rate for one in taken if one.rate is not None]
        told.append(
            Line(
                section,
                what,
                way,
                statistics.median(one.cost for one in taken),
                unit,
                beside,
                medians[way],
                min(ratios[way]),
                max(ratios[way]),
                statistics.median(rates) if rates else None,
                target,
                None if judge is None else judge(medians),
            )
        )
    return told
