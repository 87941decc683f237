"""A program that uses the folder of an embedded server until its input ends: what a gateway or a command does there, without either."""

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pymongo

from gateway.cli.commands import run_command
from gateway.errors import StartupError
from gateway.store import embedded


async def use(data: Path, executable: str, share: bool) -> None:
    """Hold the server open, say where it is, and leave a document."""
    async with embedded.embedded_server(data, executable, share=share) as uri:
        with pymongo.MongoClient[dict[str, int]](uri) as client:
            client["gateway"]["visits"].insert_one({"pid": os.getpid()})
        sys.stdout.write(f"{uri}\n")
        sys.stdout.flush()
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()


def main() -> None:
    """Run with the folder, the server's program, whether to share it, and constants of the module to set."""
    data, executable, share, constants = orjson.loads(sys.argv[1])
    for name, value in constants.items():
        setattr(embedded, name, value)
    try:
        run_command(use(Path(data), executable, share))
    except StartupError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
