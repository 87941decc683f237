"""GraphiQL, served from the package."""
