"""Messages: rules, triggers and templates."""
