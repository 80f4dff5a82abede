"""SliceGPT (arXiv 2401.15024): a smaller transformer by rotating its residual stream and deleting directions.

from paperworks.papers.slicegpt import SliceGPT

method = SliceGPT(slicing=0.25)
report = method.fit(model, {"input_ids": ids, "attention_mask": mask})   # edits the model, layer by layer
method.model_.generate(...)
method.save("sliced", tokenizer)

SliceGPT(slicing=0.25).fit("path/to/checkpoint", ids, output_dir="sliced")   # one layer in memory at a time
"""

from __future__ import annotations

from paperworks.papers.slicegpt.estimator import SliceGPT, slice_model
from paperworks.papers.slicegpt.report import SliceReport
from paperworks.papers.slicegpt.widths import predicted_parameters

__all__ = ["SliceGPT", "SliceReport", "predicted_parameters", "slice_model"]
