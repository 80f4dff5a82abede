"""SPaR: self-play with tree-search refinement for instruction following (arXiv 2412.11605)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.spar.examples import read_chats, read_pairs
    from paperworks.papers.spar.inference import Comparison, best_of_n, compare_at_inference
    from paperworks.papers.spar.instructions import Instruction, instruction_ids
    from paperworks.papers.spar.judges import CompositeJudge, Judge, Judgement, RuleJudge, VoteJudge, tally
    from paperworks.papers.spar.loss import PreferenceLoss, preference_loss, preference_training_loss
    from paperworks.papers.spar.overlap import Overlap, overlaps
    from paperworks.papers.spar.pairs import RefinerCaps, independent_pairs, refinement_pairs, refiner_rows, similarity
    from paperworks.papers.spar.prompts import InstructionPrompt, read_prompts, write_prompts
    from paperworks.papers.spar.refiners import (
        FunctionRefiner,
        ModelRefiner,
        Refiner,
        RefineRequest,
        Repair,
        RuleEditor,
    )
    from paperworks.papers.spar.scores import InstructionResult, check_response, ifeval_scores, loose_variants
    from paperworks.papers.spar.search import Task, TreeSearchRefiner
    from paperworks.papers.spar.selfplay import RoundResult, SelfPlay
    from paperworks.papers.spar.taxonomy import Rewriting, Seed, make_prompts, read_seeds, rewrite_prompts
    from paperworks.papers.spar.training import Tuned, TuneOptions, train_dpo, train_sft
    from paperworks.papers.spar.tree import Node, SearchResult
    from paperworks.papers.spar.wording import judge_chat, parse_block, parse_judgement, refine_chat, rewrite_chat
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "Comparison",
    "CompositeJudge",
    "FunctionRefiner",
    "Instruction",
    "InstructionPrompt",
    "InstructionResult",
    "Judge",
    "Judgement",
    "ModelRefiner",
    "Node",
    "Overlap",
    "PreferenceLoss",
    "RefineRequest",
    "Refiner",
    "RefinerCaps",
    "Repair",
    "Rewriting",
    "RoundResult",
    "RuleEditor",
    "RuleJudge",
    "SearchResult",
    "Seed",
    "SelfPlay",
    "Task",
    "TreeSearchRefiner",
    "TuneOptions",
    "Tuned",
    "VoteJudge",
    "best_of_n",
    "check_response",
    "compare_at_inference",
    "ifeval_scores",
    "independent_pairs",
    "instruction_ids",
    "judge_chat",
    "loose_variants",
    "make_prompts",
    "overlaps",
    "parse_block",
    "parse_judgement",
    "preference_loss",
    "preference_training_loss",
    "read_chats",
    "read_pairs",
    "read_prompts",
    "read_seeds",
    "refine_chat",
    "refinement_pairs",
    "refiner_rows",
    "rewrite_chat",
    "rewrite_prompts",
    "similarity",
    "tally",
    "train_dpo",
    "train_sft",
    "write_prompts",
]
