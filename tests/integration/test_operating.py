"""The guide for operators names metrics, settings, commands and files that are there."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from gateway.cli import cli
from gateway.observability import Metrics
from gateway.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operating.md").read_text()


def test_every_metric_is_there() -> None:
    families = list(Metrics().registry.collect())
    known = {family.name for family in families} | {sample.name for family in families for sample in family.samples}
    known |= {f"{family.name}_{end}" for family in families for end in ("total", "bucket")}
    named = set(re.findall(r"\bgateway_[a-z_]+", GUIDE))
    assert len(named) > 7
    assert named <= known


def test_every_setting_is_there() -> None:
    named = {name.removeprefix(PREFIX).lower() for name in re.findall(r"\bGATEWAY_[A-Z_]+", GUIDE)}
    assert named <= set(Settings.model_fields)


@pytest.mark.parametrize("line", re.findall(r"^(?:\w+=\S+ )?gateway (.*)$", GUIDE, flags=re.M))
def test_every_command_is_there(line: str) -> None:
    command = get_command(cli)
    words = line.split()
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert not hasattr(command, "commands")
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#]+)", GUIDE))
def test_every_link_leads_somewhere(path: str) -> None:
    assert (ROOT / "docs" / path).exists()
