"""A recipe: the options and the function by which a paper runs on the user's own input.

The options are read to print help and to draw forms, long before anything runs. So ``Config`` stands in the paper's
``config.py``, which imports nothing heavy, and ``recipe.py``, which has ``run``, is imported when the recipe runs. A
paper whose ``recipe.py`` is light to import may keep ``Config`` there.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

from paperworks.errors import InputError
from paperworks.runs.config import Config

if TYPE_CHECKING:
    from paperworks.runs.report import Report
    from paperworks.runs.run import Run


@dataclass(frozen=True)
class Recipe:
    """A paper's options and what runs them.

    Attributes
    ----------
    slug : the paper's slug.
    module : the import path of its ``recipe.py``, by which another process finds it again.
    config : its ``Config``.
    """

    slug: str
    module: str
    config: type[Config]

    @property
    def function(self) -> Callable[[Config, Run], Report]:
        """The module's ``run``; importing it may import torch.

        Options that name files which are not there are refused first, and its errors name options (see ``Config``).
        """
        function = getattr(importlib.import_module(self.module), "run", None)
        if not callable(function):
            raise InputError(f"{self.module}.run", repr(function), "a function run(config, run) -> Report")
        return _checked(function)


def _checked(function: Callable[[Config, Run], Report]) -> Callable[[Config, Run], Report]:
    """The same function; errors of shared readers name the option that the user gave, not the reader's parameter."""

    @wraps(function)
    def named(config: Config, run: Run) -> Report:
        config.require_files()
        try:
            return function(config, run)
        except InputError as error:
            name = config.option_of(error)
            if name == error.field:
                raise
            raise InputError(name, error.found, error.expected) from error

    return named


def load_recipe(slug: str, module: str) -> Recipe:
    """The recipe of a paper, given the import path of its ``recipe.py``; imports its options only.

    Raises InputError if there is no ``Config``.
    """
    options = f"{module.rpartition('.')[0]}.config"
    home = options if importlib.util.find_spec(options) else module
    config = getattr(importlib.import_module(home), "Config", None)
    if not (isinstance(config, type) and issubclass(config, Config) and config is not Config):
        raise InputError(f"{home}.Config", repr(config), "a subclass of paperworks.runs.Config")
    return Recipe(slug, module, config)
