"""The demo workspace: people, events, conversations, tickets, messages."""
