"""A field that a caller left out, where null means something else: to clear it."""

from enum import Enum
from typing import Final, Literal


class Unset(Enum):
    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False


UNSET: Final = Unset.UNSET
