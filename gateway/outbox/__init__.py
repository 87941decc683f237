"""Deliveries: queued with the change, sent in order for each contact, retried, replayed."""
