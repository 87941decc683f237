"""`--cpu`: what each file of tests cost in CPU seconds, of the test's process, its servers and its children.

Unlike the time that passed, it is about the same on a busy machine."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

_OWN = psutil.Process()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", action="store_true", help="print the CPU seconds of each file of tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu"):
        config.pluginmanager.register(Stopwatch(), "cpu stopwatch")


class Stopwatch:
    """Notes on each report what was spent since the one before it."""

    def __init__(self) -> None:
        self._last = spent()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        outcome: Any = yield
        last, self._last = self._last, spent()
        outcome.get_result().cpu = self._last - last

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        files: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                files[report.nodeid.partition("::")[0]] += getattr(report, "cpu", 0)
        terminalreporter.section("CPU seconds")
        for file, seconds in files.most_common(40):
            terminalreporter.write_line(f"{seconds:8.1f}  {file}")
        terminalreporter.write_line(f"{files.total():8.1f}  together")


def spent() -> float:
    """The CPU seconds of this process and of all that it started so far."""
    total = 0.0
    for process in (_OWN, *_OWN.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
