"""The open connections of one process: how many there may be, and each one looked at about once a second."""

import asyncio
import ipaddress
import resource
from collections import Counter
from typing import Protocol

from gateway.settings import Settings

_LOOK_SECONDS = 1.0
_RESERVED_FILES = 300  # the database's connections, logs, listening sockets


class Connection(Protocol):
    """An open connection."""

    def look(self, now: float) -> None:
        """End it where its peer takes longer than it may."""


class Connections:
    """The open connections of one process. It is pickled, while it is empty, for each worker process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._most = _allowed_by_files(settings.max_connections)
        self._networks: dict[Connection, str] = {}
        self._per_network: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        patience = (settings.header_seconds, settings.body_seconds, settings.stalled_seconds)
        self._interval = min([_LOOK_SECONDS, *(seconds / 4 for seconds in patience if seconds)])

    def add(self, connection: Connection, address: str) -> bool:
        """Whether there is a place for one more connection, which it then has."""
        if self._most and len(self._networks) >= self._most:
            return False
        network, most = _network(address), self.settings.max_connections_per_address
        if most and self._per_network[network] >= most:
            return False
        self._networks[connection] = network
        self._per_network[network] += 1
        if self._timer is None:
            self._look_later()
        return True

    def replace(self, old: Connection, new: Connection) -> None:
        """Give the place of a connection to what it was upgraded to."""
        self._networks[new] = self._networks.pop(old)

    def remove(self, connection: Connection) -> None:
        """Free the place of a connection, where it has one."""
        network = self._networks.pop(connection, None)
        if network is None:
            return
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._networks):
            connection.look(now)
        if self._networks:
            self._look_later()


class WriteProgress:
    """Whether a peer takes what waits to be written to it, while nothing is added to that."""

    def __init__(self, transport: asyncio.Transport, settings: Settings) -> None:
        self._transport = transport
        self._seconds = settings.stalled_seconds
        self._least = max(1, settings.min_bytes_per_second * settings.stalled_seconds)
        self._since: float | None = None
        self._waiting = 0

    def is_stalled(self, now: float) -> bool:
        """Whether the peer took too little for too long, as far as was looked at since the restart."""
        waiting = self._transport.get_write_buffer_size()
        if self._since is None or waiting <= self._waiting - self._least:
            self._since, self._waiting = now, waiting
        return now - self._since >= self._seconds

    def restart(self) -> None:
        """Begin again, as the peer keeps up."""
        self._since = None


def _network(address: str) -> str:
    """The address, or the /64 of an IPv6 address: one customer has all of that."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address


def _allowed_by_files(most: int) -> int:
    """As many connections as this process may have files for, which it is allowed more of where that is possible."""
    if not most:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + _RESERVED_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # macOS refuses more than its kernel allows a process
        allowed = soft
    return min(most, max(allowed - _RESERVED_FILES, allowed // 2))
