"""What tests of clients share: Node.js with the locked packages."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def packages(once_for_all: Callable[..., Any]) -> None:
    """The locked packages, installed once: by the first worker that asks, while the others wait."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("left out: Node.js with npm is not installed")
    lock, stamp = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    with once_for_all("npm"):
        if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
            done = subprocess.run(["npm", "ci"], cwd=HERE, check=False, timeout=300, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            stamp.touch()
