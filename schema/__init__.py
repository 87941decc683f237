"""The public schema: types, root fields, payloads, access and errors."""
