"""SliceGPT as one of several methods at the same budget, for ``compare-methods``."""

from __future__ import annotations

import warnings

from paperworks.papers.slicegpt.estimator import SliceGPT
from paperworks.pruning import Pruned, PruningJob
from paperworks.pruning.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    speedup="structured",
    when="after",
    how="criterion",
    by="reconstruction",
    unit=("embedding",),
    data="unlabelled",
    recovery="update",
)


def prune(job: PruningJob) -> Pruned:
    """One pass over the calibration text, no training; one width for all cuts, the largest that meets the target.

    The width is not rounded to a multiple of 8, so that the count comes as near to the target as one dimension allows.
    """
    model, tokenizer = job.load()
    method = SliceGPT(target=job.target, round_to=1, seed=job.seed, device=job.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        calibration = job.calibration(tokenizer)
        report = method.fit(model, calibration, batch_size=job.batch_size, progress=job.progress).report_
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return Pruned(method.model_, 0, [*report.notes, *said])
