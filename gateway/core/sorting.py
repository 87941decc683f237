"""Orders of lists: which row comes first, where one lies in a list, and nulls last either way."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cmp_to_key
from typing import Any

SortPosition = tuple[Any, str]


class Direction(StrEnum):
    """Which end of a list comes first."""

    ASC = "ASC"
    DESC = "DESC"


class ContactSortKey(StrEnum):
    """What contacts are sorted by."""

    CREATED_AT = "CREATED_AT"
    UPDATED_AT = "UPDATED_AT"
    LAST_SEEN_AT = "LAST_SEEN_AT"
    NAME = "NAME"


# An id encodes when its row was created.
_FIELDS = {"CREATED_AT": "_id", "NAME": "name_lower"}


@dataclass(frozen=True, slots=True)
class Order:
    """One order; rows that are equal in it go by their ids, in the same direction."""

    key: StrEnum
    descending: bool = True

    @property
    def field(self) -> str:
        """The field that it goes by."""
        return _FIELDS.get(self.key, self.key.lower())

    @property
    def by_id(self) -> bool:
        """Whether it is the order of ids."""
        return self.field == "_id"

    @property
    def of_texts(self) -> bool:
        """Whether its field is a text, and not a time."""
        return self.key == ContactSortKey.NAME

    @property
    def lowest(self) -> Any:
        """What every value of the field lies above."""
        return "" if self.of_texts else datetime.min

    def position_of(self, row: Mapping[str, Any]) -> SortPosition:
        """Where a row lies: its value, and its id."""
        return row.get(self.field), str(row["_id"])

    def position(self, row: Mapping[str, Any]) -> str:
        """The same as a text."""
        if self.by_id:
            return str(row["_id"])
        value, id_ = self.position_of(row)
        return json.dumps([value.isoformat() if isinstance(value, datetime) else value, id_], ensure_ascii=False)

    def read(self, position: str | None) -> SortPosition | None:
        """The place that a text names."""
        if position is None or self.by_id:
            return None if position is None else (position, position)
        value, id_ = json.loads(position)
        return (datetime.fromisoformat(value) if value and not self.of_texts else value), id_

    def precedes(self, one: SortPosition, other: SortPosition) -> bool:
        """Whether one comes before the other."""
        if (one[0] is None) != (other[0] is None):
            return other[0] is None
        if one[0] == other[0]:
            return one[1] != other[1] and (one[1] > other[1]) == self.descending
        return bool(one[0] > other[0]) == self.descending

    def sorted(self, rows: Iterable[dict[str, Any]], *, backward: bool = False) -> list[dict[str, Any]]:
        """The rows in this order, or in the opposite one."""

        def compare(one: dict[str, Any], other: dict[str, Any]) -> int:
            return -1 if self.precedes(self.position_of(one), self.position_of(other)) else 1

        return sorted(rows, key=cmp_to_key(compare), reverse=backward)


@dataclass(frozen=True, slots=True)
class ContactOrder(Order):
    """An order of contacts."""

    key: ContactSortKey = ContactSortKey.CREATED_AT
