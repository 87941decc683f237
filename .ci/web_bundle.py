"""Record which sources the committed bundle of the web page was built from; with --check, fail where they differ."""

import json
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES, BUNDLE = ROOT / "web", ROOT / "gateway" / "web" / "graphiql"
RECORD = BUNDLE / "bundle.json"


def main() -> None:
    """Compare, or write."""
    found = json.dumps({"sources": _hash(_sources()), "files": _hash(_files())}, indent=2) + "\n"
    if "--check" not in sys.argv:
        RECORD.write_text(found)
    elif not RECORD.exists() or RECORD.read_text() != found:
        sys.exit("gateway/web/graphiql is not what web/ builds: run 'make web' (it needs npm), and commit both.")


def _sources() -> list[Path]:
    return [path for path in SOURCES.rglob("*") if path.is_file() and "node_modules" not in path.parts]


def _files() -> list[Path]:
    return [path for path in BUNDLE.iterdir() if path != RECORD]


def _hash(paths: list[Path]) -> str:
    """One hash over the names and the contents."""
    lines = [f"{sha256(path.read_bytes()).hexdigest()} {path.relative_to(ROOT).as_posix()}" for path in sorted(paths)]
    return sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    main()
