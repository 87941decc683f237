"""Events, their summaries and definitions, and how long events are stored."""
