"""What was measured, told: a table to read, JSON to keep, and a chart."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import orjson
from rich.console import Console
from rich.table import Table

from bench.rounds import Line

mpl.use("Agg")
from matplotlib import pyplot as plt

About = dict[str, object]


def machine(database: str, rounds: int) -> About:
    """Where and when it was measured."""
    return {
        "measured_at": datetime.now(UTC).replace(microsecond=0),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "database": database,
        "rounds": rounds,
    }


def show(lines: Sequence[Line], about: About) -> None:
    """Print the table."""
    table = Table(caption=", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()))
    for column in ("what", "way", "cost", "ratio", "spread", "to", "a second", "should be"):
        table.add_column(column, justify="right" if column in ("cost", "ratio", "spread", "a second") else "left")
    before = ""
    for line in lines:
        if line.what != before:
            table.add_section()
        table.add_row("" if line.what == before else line.what, *_cells(line))
        before = line.what
    Console(width=190).print(table)


def write(lines: Sequence[Line], about: About, folder: Path) -> None:
    """Write `results.json`, `results.md` and `chart.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(_markdown(lines, about))
    told = orjson.dumps({**about, "lines": [line.document for line in lines]}, option=orjson.OPT_INDENT_2)
    (folder / "results.json").write_bytes(told + b"\n")
    _draw(lines, about, folder / "chart.svg")
    Console(stderr=True).print(f"Written: {folder}/results.json, results.md and chart.svg")


def _markdown(lines: Sequence[Line], about: About) -> str:
    """The table as documents have it."""
    rows = ["| what | way | cost | ratio (spread) | to | a second | should be |", "|---|---|---|---|---|---|---|"]
    before = ""
    for line in lines:
        way, cost, ratio, spread, beside, rate, judged = _cells(line)
        shown = f"{ratio} ({spread})" if line.way != line.beside else "1"
        rows.append(
            f"| {'' if line.what == before else line.what} | {way} | {cost} | {shown} | {beside} | {rate} | {judged} |"
        )
        before = line.what
    return "\n".join([*rows, "", ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()), ""])


def _cells(line: Line) -> list[str]:
    rate = "" if line.rate is None else f"{line.rate:,.0f}"
    judged = "" if line.target is None else f"{'yes' if line.reached else 'NO'}: {line.target}"
    cost = f"{line.cost:,.3f} {line.unit}" if line.cost < 1000 else f"{line.cost:,.0f} {line.unit}"
    return [line.way, cost, f"{line.ratio:.2f}", f"{line.least:.2f} to {line.most:.2f}", line.beside, rate, judged]


def _draw(lines: Sequence[Line], about: About, path: Path) -> None:
    """Every ratio as a bar, one panel for each thing that was measured."""
    panels = list(dict.fromkeys(line.what for line in lines))
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(12, 2.2 * rows + 1), squeeze=False)
    for place, what in enumerate(panels):
        axis, shown = axes[place // columns][place % columns], [line for line in lines if line.what == what]
        spread = [
            [max(0, line.ratio - line.least) for line in shown],
            [max(0, line.most - line.ratio) for line in shown],
        ]
        colours = ["#3b6ea8" if line.way.startswith("gateway") else "#b9b9b9" for line in shown]
        axis.barh([line.way for line in shown], [line.ratio for line in shown], xerr=spread, color=colours)
        axis.invert_yaxis()
        axis.set_title(f"{what}: ratio to {shown[0].beside}", fontsize=9)
        axis.tick_params(labelsize=8)
    for place in range(len(panels), rows * columns):
        axes[place // columns][place % columns].axis("off")
    figure.suptitle(
        f"Cost as a ratio, less is better ({about['database']}, {about['measured_at']:%Y-%m-%d})", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
