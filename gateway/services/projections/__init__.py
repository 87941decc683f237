"""Projections of the change log: definition totals and segment memberships."""
