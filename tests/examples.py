"""How many random examples a test takes: few in `make test`, EXAMPLES times as many in `make test-random`."""

import os
from typing import Any

from hypothesis import settings

TIMES = int(os.environ.get("EXAMPLES", "1"))


def examples(count: int, **more: Any) -> settings:
    """Settings of Hypothesis with that many examples."""
    return settings(max_examples=count * TIMES, **more)
