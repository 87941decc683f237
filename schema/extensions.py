"""Types that another module gives more fields, as `extend type` does in SDL."""

from typing import Any, NamedTuple


class Extension(NamedTuple):
    """The fields to add to a type: before the field of that Python name, or behind all."""

    type: Any
    fields: Any
    before: str | None = None


def extend(extension: Extension) -> None:
    """Add the fields, once."""
    fields = extension.type.__strawberry_definition__.fields
    names = [field.name for field in fields]
    added = [field for field in extension.fields.__strawberry_definition__.fields if field.name not in names]
    place = len(fields) if extension.before is None else names.index(extension.before)
    fields[place:place] = added
