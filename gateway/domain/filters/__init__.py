"""The filter language: conditions, operators, access paths, expiry, segments."""
