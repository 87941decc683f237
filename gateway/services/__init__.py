"""The only rooms that change state: one method, one command, one transaction."""
