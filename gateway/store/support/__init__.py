"""Conversations, tickets, teammates and inboxes in MongoDB."""
