"""Summaries: the sum of tracked events, imported numbers, and events that retention removed."""

from collections.abc import Iterable
from datetime import datetime

from gateway.domain.events.documents import Counts, NamedCounts, SummaryChange, SummaryDocument, SummaryKey


def with_line(before: SummaryDocument | None, key: SummaryKey, line: NamedCounts, now: datetime) -> SummaryDocument:
    """Apply an imported line to a summary, replacing an earlier import.

    A `retained` line counts events tracked elsewhere and no longer stored. It is applied once.
    """
    counts = _counts(line)
    tracked = None if before is None else _tracked(before)
    imported = None if before is None else before.get("imported")
    if line.get("retained"):
        if before is not None and before.get("retained"):
            return before
        summary = _with_counts(before, key, summed(tracked, counts), imported)
        summary["retained"] = counts
        return summary
    summary = _with_counts(before, key, tracked, counts)
    is_same = imported is not None and _counts(imported) == counts
    summary["imported"] = imported if imported is not None and is_same else {**counts, "at": now}
    return summary


def changed(before: SummaryDocument | None, after: SummaryDocument) -> bool:
    if before is None:
        return True
    return before.get("imported") != after.get("imported") or before.get("retained") != after.get("retained")


def summary_change(before: SummaryDocument | None, after: SummaryDocument) -> SummaryChange:
    """The change log line of an import. `again`: first or last moved inwards."""
    reaches_less = before is not None and (
        after["first_at"] > before["first_at"] or after["last_at"] < before["last_at"]
    )
    return {
        "name": after["name"],
        "count": after["count"] - (before["count"] if before is not None else 0),
        "first_at": after["first_at"],
        "last_at": after["last_at"],
        "again": reaches_less,
    }


def retained_counts(summaries: Iterable[SummaryDocument], swept: Iterable[NamedCounts]) -> list[NamedCounts]:
    """Counts without stored events, by name: imported as retained, or `swept` here."""
    retained = [(row["name"], row["retained"]) for row in summaries if "retained" in row]
    totals: dict[str, Counts] = {}
    for name, counts in [*retained, *((row["name"], row) for row in swept)]:
        totals[name] = summed(totals.get(name), counts)
    return [_named(name, totals[name]) for name in sorted(totals)]


def summed(*parts: Counts | None) -> Counts:
    """Count, first and last of these parts; at least one is there."""
    rows = [part for part in parts if part is not None]
    return {
        "count": sum(row["count"] for row in rows),
        "first_at": min(row["first_at"] for row in rows),
        "last_at": max(row["last_at"] for row in rows),
    }


def _with_counts(
    before: SummaryDocument | None, key: SummaryKey, tracked: Counts | None, imported: Counts | None
) -> SummaryDocument:
    counts = summed(tracked, imported)
    summary: SummaryDocument = {
        "_id": key["_id"],
        "workspace_id": key["workspace_id"],
        "contact_id": key["contact_id"],
        "name": key["name"],
        "count": counts["count"],
        "first_at": counts["first_at"],
        "last_at": counts["last_at"],
    }
    if before is not None:
        summary = before | summary
    if tracked is not None:
        summary["tracked_count"] = tracked["count"]
        summary["tracked_first_at"] = tracked["first_at"]
        summary["tracked_last_at"] = tracked["last_at"]
    return summary


def _tracked(summary: SummaryDocument) -> Counts | None:
    if not summary.get("tracked_count"):
        return None
    return {
        "count": summary["tracked_count"],
        "first_at": summary["tracked_first_at"],
        "last_at": summary["tracked_last_at"],
    }


def _named(name: str, counts: Counts) -> NamedCounts:
    return {"name": name, "count": counts["count"], "first_at": counts["first_at"], "last_at": counts["last_at"]}


def _counts(row: Counts) -> Counts:
    return {"count": row["count"], "first_at": row["first_at"], "last_at": row["last_at"]}
