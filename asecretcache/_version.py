"""The version of the package, as pyproject.toml has it. importlib.metadata takes milliseconds to find it."""

__version__ = "0.1.0"
