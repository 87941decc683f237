"""Caches with one memory budget per process. Entries have weights; the least recently used go first."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

DEFAULT_BYTES = 128_000_000
ENTRY_BYTES = 600  # overhead of an entry
_LARGEST_SHARE = 8  # an entry may take 1/8 of the budget, so that one caller's document leaves room
_SAMPLED = 20  # items of a long list that are measured
_DEEPEST = 20
_OBJECT_BYTES = 100  # of a value that is no text, list or object, with its slot in the container


class CacheBudget:
    """The memory limit of all caches of a process, in bytes. Operations take constant time."""

    def __init__(self, most: int = DEFAULT_BYTES) -> None:
        self.most = most
        self.weight = 0
        self._entries: OrderedDict[Entry[Any, Any], None] = OrderedDict()

    @property
    def largest(self) -> int:
        return self.most // _LARGEST_SHARE

    def use(self, entry: "Entry[Any, Any]") -> None:
        self._entries.move_to_end(entry)

    def add(self, entry: "Entry[Any, Any]", weight: int) -> None:
        """Increase an entry's weight. It is removed if it is too large; the oldest entries go while the budget is exceeded."""
        if entry.removed:
            return
        self._entries.setdefault(entry, None)
        entry.weight += weight
        self.weight += weight
        if entry.weight > self.largest:
            entry.cache.remove(entry)
        while self.weight > self.most:
            oldest = next(iter(self._entries))
            oldest.cache.remove(oldest)

    def remove(self, entry: "Entry[Any, Any]") -> None:
        entry.removed = True
        self.weight -= entry.weight
        self._entries.pop(entry, None)


class Entry(Generic[Key, Value]):
    __slots__ = ("cache", "expires_at", "key", "places", "removed", "value", "weight")

    def __init__(self, cache: "Cache[Key, Value]", key: Key, value: Value, places: int) -> None:
        self.cache = cache
        self.key = key
        self.value = value
        self.places = places
        self.weight = 0
        self.expires_at = 0.0
        self.removed = False

    def add(self, weight: int) -> None:
        self.cache.budget.add(self, weight)


class Cache(Generic[Key, Value]):
    """A least-recently-used cache within a shared budget.

    `weigh` estimates the bytes of a key and its value. `most` limits the slots; an entry takes one, or `places_of(value)`.
    With `seconds`, entries expire at that age and the oldest go first, used or not."""

    def __init__(
        self,
        budget: CacheBudget,
        weigh: Callable[[Key, Value], int],
        most: int | None = None,
        seconds: float | None = None,
        timer: Callable[[], float] = time.monotonic,
        places_of: Callable[[Value], int] | None = None,
    ) -> None:
        self.budget = budget
        self.most = most
        self._weigh = weigh
        self._seconds = seconds
        self._timer = timer
        self._places_of = places_of
        self._places = 0
        self._entries: OrderedDict[Key, Entry[Key, Value]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """Return the value, or None, and mark it as used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._seconds is None:
            self._entries.move_to_end(key)
        elif entry.expires_at <= self._timer():
            self.remove(entry)
            return None
        self.budget.use(entry)
        return entry.value

    def put(self, key: Key, value: Value) -> Entry[Key, Value]:
        """Store a value and return its entry; an entry that is too large is returned removed."""
        self.pop(key)
        entry = Entry(self, key, value, 1 if self._places_of is None else self._places_of(value))
        self._entries[key] = entry
        self._places += entry.places
        if self._seconds is not None:
            self._expire(entry, self._seconds)
        self.budget.add(entry, ENTRY_BYTES + self._weigh(key, value))
        while self.most is not None and self._places > self.most:
            self.remove(next(iter(self._entries.values())))
        return entry

    def pop(self, key: Key) -> None:
        """Remove the value of a key, if there is one."""
        entry = self._entries.get(key)
        if entry is not None:
            self.remove(entry)

    def remove(self, entry: Entry[Key, Value]) -> None:
        """Remove an entry of this cache; does nothing the second time."""
        if not entry.removed:
            del self._entries[entry.key]
            self._places -= entry.places
            self.budget.remove(entry)
            del entry.value  # breaks a possible cycle, so the value is freed at once

    def clear(self) -> None:
        for entry in list(self._entries.values()):
            self.remove(entry)

    def _expire(self, entry: Entry[Key, Value], seconds: float) -> None:
        now = self._timer()
        entry.expires_at = now + seconds
        while (oldest := next(iter(self._entries.values()))).expires_at <= now:
            self.remove(oldest)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)


def text_bytes(text: str) -> int:
    """Estimate the bytes of a text."""
    return 60 + len(text) * (1 if text.isascii() else 4)


def data_bytes(data: object) -> int:
    """Estimate the bytes of JSON data or a document; long lists are sampled."""
    return _data_bytes(data, _DEEPEST)


def _data_bytes(data: object, deepest: int) -> int:
    if type(data) is str:
        return text_bytes(data)
    if not isinstance(data, dict | list | tuple) or not data or deepest == 0:
        return _OBJECT_BYTES
    if isinstance(data, dict):
        return _OBJECT_BYTES + sum(_OBJECT_BYTES + _data_bytes(value, deepest - 1) for value in data.values())
    sample = data[:: 1 + len(data) // _SAMPLED]
    inner = sum(_data_bytes(item, deepest - 1) for item in sample)
    return _OBJECT_BYTES + len(data) * inner // len(sample)
