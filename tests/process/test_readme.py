"""The README's examples, run as they stand, against a gateway started as it says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson

README = (Path(__file__).parents[2] / "README.md").read_text()
KEY = "local-dev-key"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


async def test_every_example_runs(program: Any, free_port: Any, started: Any) -> None:
    port = free_port()
    async with started(program, port, "dev", "--port", str(port), GATEWAY_DEV_KEY=KEY):

        def run(*command: str) -> str:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60, cwd=program.data.parent, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def here(text: str) -> str:
            here = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            return here.replace(
                ".venv/bin/gateway import events",
                f"{Path(sys.executable).parent}/gateway import events --data {program.data}",
            )

        answers = [run("bash", "-c", here(block)) for block in blocks("bash")]
        assert len(answers) == 6
        people, tracked, read, defined, imported, made = answers
        assert len(orjson.loads(people)["data"]["contacts"]["nodes"]) == 2
        assert orjson.loads(tracked)["data"]["trackEvent"]["summary"]["count"] == 1
        contact = orjson.loads(read)["data"]["contact"]
        assert contact["role"] == "USER"
        assert contact["events"]["nodes"][0]["metadata"] == [
            {"key": "price", "formatted": "€49.99"},
            {"key": "order", "url": "https://shop.example/orders/1001", "label": "No. 1001"},
        ]
        definitions = orjson.loads(defined)["data"]["eventDefinitions"]["nodes"]
        assert [node["name"] for node in definitions] == ["created report", "exported pdf", "invited teammate"]
        assert imported == "3 events added, 0 were there already, 0 rejected.\n"
        token = orjson.loads(made)["data"]["createContactToken"]["token"]
        viewer = await httpx.AsyncClient().post(
            f"http://127.0.0.1:{port}/graphql",
            json={"query": "{ viewer { contact { externalId } } }"},
            headers={"authorization": f"Bearer {token}"},
        )
        assert viewer.json() == {"data": {"viewer": {"contact": {"externalId": "user-42"}}}}
        secret = (program.data / "secret_key").read_text().strip()
        assert all(part not in program.log for part in (secret, *token.split(".")))
        (python,) = blocks("python")
        assert run(sys.executable, "-c", here(python)) == "100 new, 0 there already\n"
        assert run(sys.executable, "-c", here(python)) == "0 new, 100 there already\n"
        health = await httpx.AsyncClient().get(f"http://127.0.0.1:{port}/healthz")
        assert health.json() == {"status": "ok"}


def test_the_commands_it_names_are_there() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", README):
        assert f"\n{target}:" in makefile, target
