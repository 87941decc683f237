"""GraphQL over HTTP and websockets."""
