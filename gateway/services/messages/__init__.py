"""Message rules, their triggers, and the sender."""
