"""Events, their summaries and definitions, and how long they are kept."""
