"""What the API says: types, root fields, payloads, rights, and how errors are told."""
