"""The one place the version number is written for Python; pyproject.toml repeats it and a test compares them."""

__version__ = "0.1.0"
