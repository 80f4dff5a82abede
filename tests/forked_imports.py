"""Imported by a server of tests/forked.py alone: it imports what the processes of the server are to have.

The modules stay, so there is no search for garbage while they are imported, and none in them afterwards: the searches
take a quarter of the time.
"""

from __future__ import annotations

import gc
import importlib
import os
from contextlib import suppress

NAMES = "FORKED_IMPORTS"
"""Environment variable: the modules, separated by blanks. One that is not installed is left out."""

gc.disable()
for name in os.environ.get(NAMES, "").split():
    with suppress(ImportError):
        importlib.import_module(name)
gc.freeze()
gc.enable()
