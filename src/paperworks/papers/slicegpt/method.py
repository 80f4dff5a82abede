"""SliceGPT as one of several methods at the same budget, for ``compare-methods``."""

from __future__ import annotations

import warnings

from paperworks.errors import InputError
from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.pruning import Pruned, PruningJob


def prune(job: PruningJob) -> Pruned:
    """One pass over the calibration text, no training; one width for all cuts, the largest that meets the target.

    The width is not rounded to a multiple of 8, so that the count comes as near to the target as one dimension allows.
    """
    model, tokenizer = job.load()
    method = SliceGPT(target_params=job.target, round_to=1, seed=job.seed, device=job.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            report = method.fit(
                model, job.calibration(tokenizer), batch_size=job.batch_size, progress=job.progress,
            )  # fmt: skip
        except InputError as error:
            if error.field == "target_params":
                raise InputError("target", error.found, error.expected) from None
            raise
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return Pruned(method.model_, 0, [*report.notes, *said])
