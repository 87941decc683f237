"""The lock files: what serves, and what builds the wheel, are parts of what develops, pin for pin, and names no registry."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEVELOPMENT, SERVING, BUILDING = "requirements.lock", "requirements-serve.lock", "requirements-build.lock"


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """What stands on a requirement's line (version and marker) and its hashes, by name."""
    joined = re.sub(r" \\\n +", " ", (ROOT / file).read_text())
    lines = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.match(r"[a-z0-9-]+(\[[a-z0-9, -]+\])?==", line) for line in lines), file
    found = {}
    for line in lines:
        pin, *hashes = re.split(r" --hash=", line)
        assert hashes, pin
        found[re.split(r"[\[=]", pin)[0]] = (pin.partition("==")[2], frozenset(hashes))
    return found


def declared(*extras: str) -> set[str]:
    """The names of what pyproject.toml asks for: for those extras, or without one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [line for extra in extras for line in optional[extra]] if extras else project["dependencies"]
    names = [re.match(r"[A-Za-z0-9-]+", line) for line in lines]
    return {name.group().lower() for name in names if name}


@pytest.mark.parametrize("file", [SERVING, BUILDING])
def test_what_is_used_is_what_was_developed_with(file: str) -> None:
    developed = pins(DEVELOPMENT)
    different = {name for name, pin in pins(file).items() if developed.get(name) != pin}
    assert not different, f"run 'make lock': {sorted(different)}"


def test_each_file_has_what_it_is_for() -> None:
    developed, served = set(pins(DEVELOPMENT)), set(pins(SERVING))
    assert declared() <= served
    assert declared() | declared("embedded", "dev") <= developed
    assert not declared("embedded", "dev") & served
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]) <= set(pins(BUILDING))


@pytest.mark.parametrize("file", [DEVELOPMENT, SERVING, BUILDING])
def test_no_file_names_a_registry(file: str) -> None:
    assert not re.findall(r"https?://|--index|--find-links|--trusted-host", (ROOT / file).read_text())
