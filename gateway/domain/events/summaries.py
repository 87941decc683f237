"""Summaries of a contact: what was tracked, beside what was imported as a number, and what of it has no events any more."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gateway.domain.contacts.contacts import Document

_IMPORTED_FIELDS = ("imported", "retained")
_COUNTS = ("count", "first_at", "last_at")


def with_line(before: Mapping[str, Any], ids: Mapping[str, str], line: Mapping[str, Any], now: datetime) -> Document:
    """The summary of these ids with that import in the place of an earlier one, beside what was tracked. A line that is
    `retained` tells of events that were tracked elsewhere and are kept no longer: it counts as tracked, and only once."""
    counts = {name: line[name] for name in _COUNTS}
    if line.get("retained"):
        if before.get("retained"):
            return dict(before)
        tracked = summed(_part(before, "tracked_"), counts)
        return {**before, **_summed(ids, tracked, before.get("imported")), "retained": counts}
    imported = before.get("imported") or {}
    imported = dict(imported) if counts.items() <= imported.items() else {**counts, "at": now}
    return {**before, **_summed(ids, _part(before, "tracked_"), counts), "imported": imported}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether what files and calls brought is another number."""
    return any(before.get(name) != after.get(name) for name in _IMPORTED_FIELDS)


def summary_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """What a summary's import changes; `again`: it may have been what made a definition's first or last."""
    reaches_less = bool(before) and (after["first_at"] > before["first_at"] or after["last_at"] < before["last_at"])
    return {
        "name": after["name"],
        "count": after["count"] - before.get("count", 0),
        "first_at": after["first_at"],
        "last_at": after["last_at"],
        "again": reaches_less,
    }


def retained_counts(summaries: Iterable[Mapping[str, Any]], swept: Iterable[Mapping[str, Any]]) -> list[Document]:
    """What a contact's summaries count without events, by name: what was brought with it, and what was `swept` here."""
    found: dict[str, Document] = {}
    for row in [*({**row["retained"], "name": row["name"]} for row in summaries if "retained" in row), *swept]:
        found[row["name"]] = {"name": row["name"], **summed(found.get(row["name"]), row)}
    return [found[name] for name in sorted(found)]


def summed(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Document:
    """Count, first and last of both; of none, if there is neither."""
    rows = [row for row in (one, other) if row]
    if not rows:
        return {}
    return {
        "count": sum(row["count"] for row in rows),
        "first_at": min(row["first_at"] for row in rows),
        "last_at": max(row["last_at"] for row in rows),
    }


def _part(summary: Mapping[str, Any], kind: str) -> Document | None:
    return {name: summary[kind + name] for name in _COUNTS} if summary.get(f"{kind}count") else None


def _summed(ids: Mapping[str, str], tracked: Document | None, imported: Mapping[str, Any] | None) -> Document:
    return {
        **ids,
        **summed(tracked, imported),
        **{f"tracked_{name}": value for name, value in (tracked or {}).items()},
    }
