"""Seeds the demo workspace: contacts, events, conversations, tickets and message rules."""
