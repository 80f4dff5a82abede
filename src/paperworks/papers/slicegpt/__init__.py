"""SliceGPT (arXiv 2401.15024): a smaller transformer by rotating its residual stream and deleting directions.

from paperworks.papers.slicegpt import SliceGPT

method = SliceGPT(slicing=0.25)
report = method.fit(model, {"input_ids": ids, "attention_mask": mask}).report_   # edits the model, layer by layer
method.model_.generate(...)
method.save("sliced", tokenizer)

SliceGPT(slicing=0.25).fit("path/to/checkpoint", ids, output_dir="sliced")   # one layer in memory at a time
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.slicegpt.estimator import SliceGPT, slice_model
    from paperworks.papers.slicegpt.report import SliceReport
    from paperworks.papers.slicegpt.widths import predicted_parameters
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = ["SliceGPT", "SliceReport", "predicted_parameters", "slice_model"]
