"""Commands, rules and ids: no I/O and no framework."""
