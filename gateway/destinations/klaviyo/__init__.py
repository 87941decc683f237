"""Klaviyo: what it is told, and how it is spoken to."""
