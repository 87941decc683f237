"""What Dockerfile and compose.yaml say fits the gateway, and lets nobody do more than they must. `make image-check` runs it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.servers import serve
from gateway.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_the_builder_copies_what_the_ignore_file_lets_pass() -> None:
    copied = [line.split()[:-1] for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.M)]
    passing = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.M)
    assert sorted(name for names in copied for name in names) == sorted(passing)
    assert all((ROOT / name).exists() for name in passing)


def test_the_image_has_the_virtual_environment_alone_and_is_no_root() -> None:
    _, builder, final = DOCKERFILE.split("\nFROM ")
    assert "--require-hashes" in builder
    assert re.findall(r"^(?:COPY|ADD) .*$", final, flags=re.M) == ["COPY --from=builder /opt/gateway /opt/gateway"]
    assert re.findall(r"^USER (.*)$", final, flags=re.M) == ["10001:10001"]
    assert len(set(re.findall(r"FROM (python:3\.1[123]-slim-\w+)", DOCKERFILE))) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp:size=64m"]
    assert service["restart"] in ("unless-stopped", "on-failure:5")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert not re.search(r"password|secret|:latest", str(service))


def test_the_services_start_in_order() -> None:
    assert set(SERVICES) == {"mongo", "migrate", "gateway"}
    assert SERVICES["migrate"]["depends_on"] == {"mongo": {"condition": "service_healthy"}}
    assert SERVICES["gateway"]["depends_on"] == {
        "mongo": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }
    (host,) = re.findall(r'host: "(.*?)"', SERVICES["mongo"]["healthcheck"]["test"][-1])
    assert f"mongodb://{host}/" in SERVICES["gateway"]["environment"]["GATEWAY_MONGO_URI"]
    assert "replicaSet=rs0" in SERVICES["gateway"]["environment"]["GATEWAY_MONGO_URI"]


@pytest.mark.parametrize("name", ["migrate", "gateway"])
def test_a_service_names_settings_and_options_that_exist(name: str) -> None:
    named = SERVICES[name]["environment"]
    assert {variable.removeprefix(PREFIX).lower() for variable in named} <= set(Settings.model_fields)
    options = {part.removeprefix("--") for part in SERVICES[name]["command"] if part.startswith("--")}
    assert options <= set(serve.__annotations__)
