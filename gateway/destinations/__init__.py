"""Systems that the outbox delivers to."""
