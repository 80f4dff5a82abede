"""A recipe: the options and the function by which a paper runs on the user's own input."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from paperworks.errors import InputError
from paperworks.runs.config import Config
from paperworks.runs.report import Report
from paperworks.runs.run import Run


@dataclass(frozen=True)
class Recipe:
    """A paper's ``Config`` and ``run``, with the module they come from (by which another process finds them again)."""

    slug: str
    module: str
    config: type[Config]
    function: Callable[[Config, Run], Report]

    @property
    def purpose(self) -> str:
        """The first line of the recipe function's docstring, or of its module's."""
        text = self.function.__doc__ or importlib.import_module(self.module).__doc__ or ""
        return text.strip().splitlines()[0] if text.strip() else ""


def load_recipe(slug: str, module: str) -> Recipe:
    """Import a paper's recipe module and check that it keeps the contract."""
    loaded = importlib.import_module(module)
    config = getattr(loaded, "Config", None)
    function = getattr(loaded, "run", None)
    if not (isinstance(config, type) and issubclass(config, Config) and config is not Config):
        raise InputError(f"{module}.Config", repr(config), "a subclass of paperworks.runs.Config")
    if not callable(function):
        raise InputError(f"{module}.run", repr(function), "a function run(config, run) -> Report")
    return Recipe(slug, module, config, function)
