"""What tracing costs: the CPU of `gateway dev` for small queries, without it and with it, in turn. Prints decision 9's figures.

.venv/bin/python bench/tracing.py [FOLDER ...]      (other checkouts, to compare them; without tracing there)
"""

import asyncio
import http.server
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import psutil

REQUESTS, ROUNDS, KEY = 2000, 4, "local-dev-key"
QUERIES = ("{ viewer { id } }", "{ contacts(first: 1) { nodes { id } } }")
ROOT = Path(__file__).parents[1]


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes every span, and forgets it."""

    def do_POST(self) -> None:
        """Take it."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def main(folders: list[str]) -> None:
    """Measure each way in turn, and print the least of each."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ways: dict[str, tuple[Path, dict[str, str]]] = {name: (Path(name), {}) for name in folders}
        ways["without"] = (ROOT, {})
        ways["with"] = (ROOT, {"GATEWAY_TRACING": f"http://127.0.0.1:{server.server_port}"})
        took: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                for query, milliseconds in zip(QUERIES, await measure(*way), strict=True):
                    took.setdefault((query, name), []).append(milliseconds)
        server.shutdown()
    for (query, name), found in sorted(took.items()):
        print(f"{query:44} {name:20} {min(found):.3f} ms of CPU a request")  # other programs only ever add to it


async def measure(folder: Path, tracing: dict[str, str]) -> list[float]:
    """Milliseconds of CPU a request of each query, of a gateway of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        settings = {"GATEWAY_DEV_KEY": KEY, "GATEWAY_DEMO_SECONDS": "0", "GATEWAY_LOG_LEVEL": "ERROR", **tracing}
        command = [sys.executable, "-c", "from gateway.cli import main; main()", "dev", "--no-demo"]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--port", str(port), "--data", data),
            cwd=folder,
            env={**os.environ, **settings},
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            return await _ask(psutil.Process(process.pid), f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            await process.wait()


async def _ask(process: psutil.Process, url: str) -> list[float]:
    transport = httpx.AsyncHTTPTransport(retries=10)
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, transport=transport) as http:
        (await http.get(f"{url}/readyz")).raise_for_status()
        found = []
        for query in QUERIES:
            for count in (REQUESTS // 10, REQUESTS):  # the first round warms up
                before = process.cpu_times()
                for _ in range(count):
                    (await http.post(f"{url}/graphql", json={"query": query})).raise_for_status()
                after = process.cpu_times()
            found.append((after.user + after.system - before.user - before.system) * 1000 / REQUESTS)
        return found


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
