"""Shared by every layer: clock, ids, pagination, sorting, text rules, typed values. No I/O, no framework."""
