"""A field that a caller left out, where null means something else: to clear it."""

from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Unset(Enum):
    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False


UNSET: Final = Unset.UNSET


def given_fields(command: "DataclassInstance") -> dict[str, object]:
    """The fields of a command that the caller gave."""
    values = {field.name: getattr(command, field.name) for field in fields(command)}
    return {name: value for name, value in values.items() if value is not UNSET}
