"""CodeGen2: language models that complete code and fill holes in it (arXiv 2305.02309)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.codegen2.checkpoints import load_code_model
    from paperworks.papers.codegen2.completion import (
        Fill,
        complete,
        infill,
        infill_many,
        split_holes,
        truncate_completion,
    )
    from paperworks.papers.codegen2.conversion import (
        LayoutCheck,
        check_layout,
        convert_checkpoint,
        load_released,
        pack_qkv,
        regroup_qkv,
        split_qkv,
    )
    from paperworks.papers.codegen2.corruption import SpanCorruption
    from paperworks.papers.codegen2.evaluation import InfillScores, evaluate_infill, make_holes, pass_at_k
    from paperworks.papers.codegen2.export import prompt_format, save_gguf, to_phi
    from paperworks.papers.codegen2.fitting import Lora, Trained, TransformedSequences, train
    from paperworks.papers.codegen2.models import small_model
    from paperworks.papers.codegen2.objectives import UL2, Denoiser, PrefixLMMask, fim_transform, ul2_denoisers
    from paperworks.papers.codegen2.packing import Packed, deduplicate, pack, tokenize
    from paperworks.papers.codegen2.repository import CodeFiles, read_code
    from paperworks.papers.codegen2.tokens import RELEASED, InfillTokens, add_infill_tokens, infill_tokens, resize
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "RELEASED",
    "UL2",
    "CodeFiles",
    "Denoiser",
    "Fill",
    "InfillScores",
    "InfillTokens",
    "LayoutCheck",
    "Lora",
    "Packed",
    "PrefixLMMask",
    "SpanCorruption",
    "Trained",
    "TransformedSequences",
    "add_infill_tokens",
    "check_layout",
    "complete",
    "convert_checkpoint",
    "deduplicate",
    "evaluate_infill",
    "fim_transform",
    "infill",
    "infill_many",
    "infill_tokens",
    "load_code_model",
    "load_released",
    "make_holes",
    "pack",
    "pack_qkv",
    "pass_at_k",
    "prompt_format",
    "read_code",
    "regroup_qkv",
    "resize",
    "save_gguf",
    "small_model",
    "split_holes",
    "split_qkv",
    "to_phi",
    "tokenize",
    "train",
    "truncate_completion",
    "ul2_denoisers",
]
