"""Contacts: their fields, identity resolution, merging and erasure."""
