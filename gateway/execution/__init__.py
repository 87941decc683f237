"""How operations are executed: their documents read and validated once, each compiled to Python that answers it."""
