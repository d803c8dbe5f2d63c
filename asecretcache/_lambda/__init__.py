"""Lambda's entry points, and the default cache."""
