"""The version of the code that runs. It has a module of its own, for every layer to import without the root package."""

__version__ = "0.2.0"
