"""What the metrics of several workers say once one of them died."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.observability import MULTIPROCESS_FOLDER

SUBSCRIBE = (
    "from gateway.observability import Metrics; metrics = Metrics(); metrics.subscribers.inc(); metrics.refused('X')"
)
READ = "from gateway.observability import Metrics, forget_dead_workers; forget_dead_workers(); print(Metrics().text().decode())"


def test_who_died_has_no_subscribers_and_keeps_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MULTIPROCESS_FOLDER, str(tmp_path))
    subprocess.run([sys.executable, "-c", SUBSCRIBE], check=True)
    done = subprocess.run([sys.executable, "-c", READ], check=True, capture_output=True, text=True)
    assert "gateway_subscribers 1.0" not in done.stdout
    assert 'gateway_refused_operations_total{code="X"} 1.0' in done.stdout
