"""Tracking, its group commit, and the retention of events."""
