"""How fields are resolved: batch functions, inputs, loaders and the context of an operation."""
