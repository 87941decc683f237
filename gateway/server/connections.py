"""Counts the open connections of one process, and checks each about once a second."""

import asyncio
import ipaddress
import resource
from collections import Counter
from typing import Protocol

from gateway.settings import Settings

_LOOK_SECONDS = 1.0
_RESERVED_FILES = 300  # the database's connections, logs, listening sockets


class Connection(Protocol):
    def look(self, now: float) -> None:
        """Close the connection if its peer is too slow. `now` is the event loop's time."""


class Connections:
    """The open connections of one process. It is pickled, while empty, for each worker process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._most = _allowed_by_files(settings.max_connections)
        self._networks: dict[Connection, str] = {}
        self._per_network: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        patience = (settings.header_seconds, settings.body_seconds, settings.stalled_seconds)
        self._interval = min([_LOOK_SECONDS, *(seconds / 4 for seconds in patience if seconds)])

    def add(self, connection: Connection, address: str) -> bool:
        """Register a connection; False if a limit is reached."""
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
        """Register `new`, the upgraded connection, in place of `old`."""
        self._networks[new] = self._networks.pop(old)

    def remove(self, connection: Connection) -> None:
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
    """Whether a peer reads what is buffered for it, while nothing is added to the buffer."""

    def __init__(self, transport: asyncio.Transport, settings: Settings) -> None:
        self._transport = transport
        self._seconds = settings.stalled_seconds
        self._least = max(1, settings.min_bytes_per_second * settings.stalled_seconds)
        self._since: float | None = None
        self._waiting = 0

    def is_stalled(self, now: float) -> bool:
        """Whether the peer read too little for too long since the last restart."""
        waiting = self._transport.get_write_buffer_size()
        if self._since is None or waiting <= self._waiting - self._least:
            self._since, self._waiting = now, waiting
        return now - self._since >= self._seconds

    def restart(self) -> None:
        """Start a new measurement: the peer keeps up."""
        self._since = None


def _network(address: str) -> str:
    """Return an IPv4 address, or the /64 of an IPv6 address: one customer usually has all of it."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address


def _allowed_by_files(most: int) -> int:
    if not most:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    required = most + _RESERVED_FILES
    if soft == resource.RLIM_INFINITY or soft >= required:
        return most
    allowed = required if hard == resource.RLIM_INFINITY else min(hard, required)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # macOS refuses more than its kernel allows a process
        allowed = soft
    return min(most, max(allowed - _RESERVED_FILES, allowed // 2))
