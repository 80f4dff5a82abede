"""Training shards again without the records that were deleted, while the folder can be read, cut and served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.s3t.arguments import shards_of
from paperworks.papers.s3t.assignment import Selection, assign, choose_sequences, derived_seed, slice_prior
from paperworks.papers.s3t.fitting import train_shards
from paperworks.papers.s3t.manifest import Manifest, UnknownRecordError
from paperworks.papers.s3t.sequences import Order
from paperworks.papers.s3t.stages import Job, content_digest
from paperworks.papers.s3t.store import Folder


@dataclass(frozen=True)
class Given:
    """The records that a retraining is given.

    Attributes
    ----------
    examples, codes, names : input of the network, class codes (None for a language model), ids.
    owners, risk : as at fit, or None.
    compare : whether what the records of live slices say must be what they said at fit.
    """

    examples: Any
    codes: np.ndarray | None
    names: list[str]
    owners: Sequence[Any] | None = None
    risk: ArrayLike | None = None
    compare: bool = False


def retrain_shards(
    folder: Folder,
    job: Job,
    given: Given,
    shards: Literal["dead", "all"] | Sequence[int],
    *,
    selection: Selection = "auto",
    requests_ahead: int = 100,
) -> list[int]:
    """Train shards again and put them into the folder; return which.

    The folder is not locked while they train. If one of their records is deleted meanwhile they are trained once more.
    """
    with folder.retraining() as aside:
        while True:
            manifest = folder.read()
            chosen = shards_of(manifest, shards)
            if not chosen:
                return []
            if given.compare:
                _check_content(manifest, given, chosen)
            changed = without_deleted(manifest, given.names, chosen, owners=given.owners, risk=given.risk)
            orders = _orders(manifest, changed, chosen, selection, requests_ahead)
            changed = train_shards(aside, changed, job, orders, given.examples, given.codes, given.names)
            if folder.exchange(manifest, changed, chosen, aside):
                return chosen


def without_deleted(
    manifest: Manifest,
    names: Sequence[str],
    shards: Sequence[int],
    *,
    owners: Sequence[Any] | None = None,
    risk: ArrayLike | None = None,
) -> Manifest:
    """The manifest for shards that are trained again: deleted records are in no slice, the others in new ones.

    The prior of their slices is that of ``risk``, or uniform; a shard's part of all requests is as it was.

    Raises InputError where a record that is left is not among ``names``, or one of them was never trained on.
    """
    unknown = [name for name in names if manifest.key(name) not in manifest.records]
    if unknown:
        raise UnknownRecordError(unknown)
    row_of = {manifest.key(name): row for row, name in enumerate(names)}
    weights = None if risk is None else np.asarray(risk, dtype=np.float64)
    n_slices = manifest.system.n_slices
    records, generations, deleted = dict(manifest.records.items()), list(manifest.generations), manifest.deleted
    prior = None if manifest.system.prior is None else list(manifest.system.prior)
    for shard in shards:
        own = [key for key, (s, _) in records.items() if s == shard]
        left = [key for key in own if key not in deleted]
        missing = sum(key not in row_of for key in left)
        if missing:
            raise InputError("data", f"without {missing} records of shard {shard}", "all that were not deleted")
        generations[shard] += 1
        rows = [row_of[key] for key in left]
        likely = None if weights is None or not weights[rows].any() else weights[rows]
        places = assign(
            len(left),
            1,
            n_slices,
            owners=None if owners is None else [owners[row] for row in rows],
            risk=likely,
            seed=derived_seed(manifest.seed, shard, generations[shard]),
        )
        records |= dict.fromkeys(own, (shard, -1))
        records |= {key: (shard, int(c)) for key, (_, c) in zip(left, places, strict=True)}
        if prior is not None:
            share = np.full(n_slices, 1 / n_slices) if likely is None else slice_prior(places, 1, n_slices, likely)[0]
            prior[shard] = tuple((sum(prior[shard]) * share).tolist())
    return manifest.model_copy(
        update={
            "records": records,
            "generations": tuple(generations),
            "dead": tuple(() if s in shards else slices for s, slices in enumerate(manifest.dead)),
            "system": manifest.system.model_copy(update={"prior": None if prior is None else tuple(prior)}),
        }
    )


def _orders(
    manifest: Manifest, changed: Manifest, shards: Sequence[int], selection: Selection, requests_ahead: int
) -> Mapping[int, list[Order]]:
    """The sequences of shards: as they were, or those of the new slices' prior."""
    prior = changed.system.prior
    if prior is None:
        return {s: [sequence.order for sequence in manifest.sequences[s]] for s in shards}
    found = {}
    for s in shards:
        rng = np.random.default_rng(derived_seed(manifest.seed, "sequences", s, changed.generations[s]))
        found[s] = choose_sequences(
            changed.system.n_slices, changed.system.budget, np.asarray(prior[s]), selection, requests_ahead, rng
        )
    return found


def _check_content(manifest: Manifest, given: Given, shards: Sequence[int]) -> None:
    """Raise InputError where the records of a live slice do not say what they said when it was trained."""
    row_of = {manifest.key(name): row for row, name in enumerate(given.names)}
    for shard in shards:
        for slice_, digest in enumerate(manifest.slice_digests[shard]):
            rows = [row_of[key] for key in manifest.members(shard, slice_) if key in row_of]
            if digest is not None and content_digest(given.examples, given.codes, rows) != digest:
                raise InputError(
                    "data", "other records than at fit under the same row numbers", "the records of fit in their order"
                )
