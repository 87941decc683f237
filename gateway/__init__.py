"""The gateway: events and customer support over GraphQL, kept in MongoDB."""
