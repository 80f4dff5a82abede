"""The version of the code that runs. A module of its own, so that every layer may import it without the root package."""

__version__ = "0.2.0"
