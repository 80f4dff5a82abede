"""Compresso (arXiv 2310.05015): masks over heads, channels and dimensions, learned while adapters are tuned.

import paperworks as pw

method = pw.compresso.Compresso(target_sparsity=0.3)
method.fit(model, tokenizer, rows).report_      # rows {instruction, input?, output}, texts, or token ids [n, T]
method.save("pruned", tokenizer)                # a smaller checkpoint, with its prompt

pw.compresso.PromptedModel(method.model_, tokenizer, method.template_).generate("Define the noun.", "hub")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.compresso.constraint import Lagrangian
    from paperworks.papers.compresso.data import build_examples, definition_rows
    from paperworks.papers.compresso.estimator import Compresso
    from paperworks.papers.compresso.gates import Gates
    from paperworks.papers.compresso.inference import PromptedModel
    from paperworks.papers.compresso.prompt import PromptTemplate
    from paperworks.papers.compresso.report import CompressoReport
    from paperworks.papers.compresso.settings import TrainerArgs
    from paperworks.papers.compresso.size import Size
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Compresso",
    "CompressoReport",
    "Gates",
    "Lagrangian",
    "PromptTemplate",
    "PromptedModel",
    "Size",
    "TrainerArgs",
    "build_examples",
    "definition_rows",
]
