"""The only code that changes state: a method is a command in one transaction."""
