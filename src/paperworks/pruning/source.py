"""What a recipe that prunes begins and ends with: the dense checkpoint, the target on it, stages measured once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.language import bundled_model_path, check_length, load_model, speeds_in_turn
from paperworks.nn import resolve_dtype, stored_dtype
from paperworks.pruning.quality import Figures
from paperworks.pruning.target import notation_notes, resolved
from paperworks.runs import Run
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from paperworks.language import Speed

TARGET_FILE = "target.json"


def source_folder(model: Path | None, *lengths: int) -> Path:
    """The user's checkpoint folder, or the bundled one. Raises InputError if a sequence length is too long for it."""
    folder = (model or bundled_model_path()).expanduser()
    for length in lengths:
        check_length(folder, length)
    return folder


def open_dense(
    folder: Path,
    target: str,
    run: Run,
    device: str,
    check: Callable[[Any, int], object] | None = None,
    *,
    dtype: str = "auto",
) -> tuple[Any, PreTrainedTokenizerBase, int]:
    """The dense model in float32, its tokenizer, and the most parameters that it may keep.

    ``check(model, parameters)`` is the method's own look at the target; its InputErrors are told as ones of ``target``,
    which is what the option is called, but for units that the model's family has not. A run that goes on has the
    parameters that it began with. ``dtype``: that the pruned model is saved in, in which a target in bytes is counted
    (``auto``: the checkpoint's).
    """
    for note in notation_notes(target):
        run.log.warning(note)
    model, tokenizer = load_model(folder, "float32", device)
    most = resolved(target, model, run.state / TARGET_FILE, dtype=saved_dtype(folder, dtype))
    if check is not None:
        try:
            check(model, most)
        except InputError as error:
            if error.field == "kinds":  # units that another family has
                raise InputError("model", f"{folder}, without units of {error.found}", error.expected) from None
            raise InputError("target", error.found, error.expected) from None
    return model, tokenizer, most


def saved_dtype(folder: Path, wanted: str) -> torch.dtype:
    """The type to save weights in: ``wanted``, or for ``auto`` that of the checkpoint."""
    return stored_dtype(folder) if wanted == "auto" else resolve_dtype(wanted)


def measured_once(
    run: Run, stage: str, measure: Callable[[], dict[str, Any]], text: str | None = None
) -> dict[str, Any]:
    """Figures of the model of a stage (``dense``, ``pruned``), measured unless an earlier attempt of the run has."""
    kept = run.state / f"{stage}.json"
    if not kept.exists():
        run.step(text or f"measuring the {stage} model")
        write_text(kept, json.dumps(measure()))
    return dict(json.loads(kept.read_text(encoding="utf-8")))


def with_speeds(
    run: Run,
    figures: Mapping[str, Figures],
    folders: Mapping[str, Path],
    *,
    length: int,
    dtype: str = "float32",
    device: str = "auto",
) -> dict[str, Figures]:
    """The figures of several models with their speeds for a batch of 8, which are measured in turn, and once."""

    def measure() -> dict[str, Figures]:
        prompt, new_tokens = max(1, min(128, length // 2)), max(1, min(16, length // 2))
        found = speeds_in_turn(
            folders, prompt=prompt, new_tokens=new_tokens, dtype=dtype, device=device, progress=run.progress
        )
        return {name: speed_figures(found.median(name)) for name in folders}

    speeds = measured_once(run, "speed", measure, "measuring speed in turn")
    return {name: {**found, **speeds[name]} for name, found in figures.items()}


def speed_figures(speed: Speed) -> Figures:
    """A speed as rows of a table."""
    return {
        "prefill tokens/s": speed.prefill_tokens_per_second,
        "decode tokens/s": speed.decode_tokens_per_second,
        "decode latency per token, seconds": speed.seconds_per_token,
    }
