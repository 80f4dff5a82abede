"""Replay these policies inside libCacheSim, beside its own (Python package ``libcachesim``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.combine import Combined
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.simulation import checked_predictions


def libcachesim_cache(policy: Policy, predictions: object = None) -> Any:
    """A ``libcachesim.PluginCache`` of ``policy.k`` unit-size objects that asks the policy what to evict.

    libCacheSim wants one victim when the cache is full, so the policy is followed lazily (``lazy=True``): the misses
    are those of ``simulate`` with the lazy policy. Hooks do not carry predictions, which are therefore looked up by the
    number of the request: ``predictions[i]`` belongs to the i-th request that the cache is given.

    Read the trace with ``ignore_obj_size=True``. Raises InputError if libcachesim is not installed, or for predictions
    that the policy cannot use.
    """
    try:
        import libcachesim
    except ImportError:
        raise InputError("libcachesim", "no such package", "it to be installed: pip install libcachesim") from None
    length = len(np.asarray(predictions)) if predictions is not None else 0
    given = checked_predictions(policy, predictions, length)
    return libcachesim.PluginCache(
        policy.k,
        lambda parameters: _Session(policy, given),
        _Session.hit,
        _Session.miss,
        _Session.evict,
        _Session.remove,
        lambda session: None,
        cache_name=policy.name,
    )


class _Session:
    """The policy's side of one plugin cache. For a miss libCacheSim calls ``evict`` (if full), then ``miss``."""

    def __init__(self, policy: Policy, predictions: np.ndarray) -> None:
        if isinstance(policy, Combined):
            self.policy: Policy = policy.clone()
        else:
            self.policy = type(policy)(policy.k, random_state=policy.seed, lazy=True)
        self.predictions = predictions
        self.served = False

    def _serve(self, request: Any) -> None:
        number = self.policy.requests
        if self.policy.prediction != "none" and number >= len(self.predictions):
            raise InputError("predictions", f"{len(self.predictions)} of them", "one per request of the trace")
        prediction = int(self.predictions[number]) if self.policy.prediction != "none" else 0
        self.policy.access(request.obj_id, prediction)

    def hit(self, request: Any) -> None:
        self._serve(request)

    def evict(self, request: Any) -> Any:
        self._serve(request)
        self.served = True
        (victim,) = self.policy.evicted
        return victim

    def miss(self, request: Any) -> None:
        if not self.served:
            self._serve(request)
        self.served = False

    def remove(self, object_id: Any) -> None:
        raise InputError("request", f"a delete of object {object_id}", "a trace without deletes")
