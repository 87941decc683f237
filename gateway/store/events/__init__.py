"""Events, tombstones and definitions in MongoDB."""
