"""Contacts in MongoDB."""
