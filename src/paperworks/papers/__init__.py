"""One folder per paper. A folder with a ``paper.toml`` is in the catalogue; one with a ``recipe.py`` can be run."""
