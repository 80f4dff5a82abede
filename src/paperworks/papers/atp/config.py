"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from paperworks import runs


class Config(runs.Config):
    """What to prune, how far, on which domain."""

    model: Path | None = Field(None, description="Hugging Face checkpoint folder (none: the bundled language model)")
    target: str = Field(
        "0.6p",
        description="most parameters: 0.75x (of all), 0.6p (of the prunable), 4.2M, 900MiB; or 20ms, 0.7t (measured)",
    )
    space: Literal["layer_uniform", "disp", "heads"] = Field(
        "layer_uniform",
        description="what gets masks: layer_uniform (rotary pairs, value channels, ffn), disp (the stream as each "
        "block reads and writes it, ffn), heads (key-value groups, ffn)",
    )
    text: Path | None = Field(
        None, description="text of the domain: .txt, .jsonl, .gz, a folder (none: dictionary entries)"
    )
    evaluation: Path | None = Field(None, description="held-out text of the domain (none: the last tenth of it)")
    steps: int = Field(100, ge=2, le=100_000_000, description="steps of the tuning")
    control_steps: int | None = Field(
        None, ge=1, le=100_000_000, description="of them, steps with a search (none: the first half)"
    )
    batch_size: int = Field(12, ge=1, le=65_536, description="sequences in a step")
    length: int = Field(64, ge=8, le=2**20, description="tokens of a sequence, at most")
    learning_rate: float = Field(2e-3, gt=0, lt=1, description="rate of the adapters (the paper's 7B: 1e-4)")
    generator_rate: float | None = Field(
        None, gt=0, lt=1, description="rate of the generator (none: the paper's 1e-3, or more if steps are few)"
    )
    alpha: float = Field(5.0, ge=0, le=1e6, description="weight of the penalty on the remaining size")
    beta: float = Field(0.3, ge=0, le=1e6, description="weight of the group penalty on adapters of pruned units")
    sparsity: Literal["auto", "penalty", "proximal", "none"] = Field(
        "auto", description="how adapters of pruned units are emptied (auto: penalty; for disp, proximal)"
    )
    lora_rank: int = Field(8, ge=1, le=65_536, description="rank of the adapters")
    svd_init: bool = Field(False, description="adapters start from the smallest singular components")
    masks: Literal["sampled", "decided"] = Field("sampled", description="masks that the tuning sees during the search")
    final: Literal["exact", "sampled"] = Field(
        "exact", description="exact budget, or the last sampled masks (faithful)"
    )
    keep_adapter: bool = Field(False, description="also save the smaller base and its adapter, not merged")
    evaluation_sequences: int = Field(128, ge=1, le=65_536, description="held-out sequences, at most")
    round_to: int = Field(
        1,
        ge=1,
        le=65_536,
        description="kept channels (and, of disp, dimensions) are a multiple of this, such as 64, or all",
    )
    uniform_export: bool = Field(False, description="also save a model with equal widths, for serving engines")
    uniform_multiple: int = Field(64, ge=1, le=65_536, description="its feed-forward width is a multiple of this")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the saved weights (auto: the checkpoint's)"
    )
    dry_run: bool = Field(False, description="only show what would be searched and its sizes; change nothing")
