"""Sort orders of lists. Nulls are last in both directions."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cmp_to_key
from typing import TypeVar, cast

SortValue = datetime | str | None
SortPosition = tuple[SortValue, str]
R = TypeVar("R", bound=Mapping[str, object])


class Direction(StrEnum):
    ASC = "ASC"
    DESC = "DESC"


class ContactSortKey(StrEnum):
    CREATED_AT = "CREATED_AT"
    UPDATED_AT = "UPDATED_AT"
    LAST_SEEN_AT = "LAST_SEEN_AT"
    NAME = "NAME"


# An id encodes its creation time.
_FIELDS = {"CREATED_AT": "_id", "NAME": "name_lower"}


@dataclass(frozen=True, slots=True)
class Order:
    """A sort order. Ties are broken by id, in the same direction."""

    key: StrEnum
    descending: bool = True

    @property
    def field(self) -> str:
        return _FIELDS.get(self.key, self.key.lower())

    @property
    def by_id(self) -> bool:
        return self.field == "_id"

    @property
    def of_texts(self) -> bool:
        return self.key == ContactSortKey.NAME

    @property
    def lowest(self) -> datetime | str:
        return "" if self.of_texts else datetime.min

    def position_of(self, row: Mapping[str, object]) -> SortPosition:
        return cast(SortValue, row.get(self.field)), str(row["_id"])

    def position(self, row: Mapping[str, object]) -> str:
        """The sort position of a row as text, for a cursor."""
        if self.by_id:
            return str(row["_id"])
        value, id_ = self.position_of(row)
        return json.dumps([value.isoformat() if isinstance(value, datetime) else value, id_], ensure_ascii=False)

    def read(self, position: str | None) -> SortPosition | None:
        if position is None or self.by_id:
            return None if position is None else (position, position)
        value, id_ = json.loads(position)
        return (datetime.fromisoformat(value) if value and not self.of_texts else value), id_

    def precedes(self, left: SortPosition, right: SortPosition) -> bool:
        if (left[0] is None) != (right[0] is None):
            return right[0] is None
        if left[0] == right[0]:
            return left[1] != right[1] and (left[1] > right[1]) == self.descending
        return bool(left[0] > right[0]) == self.descending  # type: ignore[operator]  # values of one field

    def sorted(self, rows: Iterable[R], *, backward: bool = False) -> list[R]:
        """The rows in this order, reversed if `backward`."""

        def compare(left: R, right: R) -> int:
            return -1 if self.precedes(self.position_of(left), self.position_of(right)) else 1

        return sorted(rows, key=cmp_to_key(compare), reverse=backward)


@dataclass(frozen=True, slots=True)
class ContactOrder(Order):
    key: ContactSortKey = ContactSortKey.CREATED_AT
