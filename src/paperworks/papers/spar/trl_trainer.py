"""The same trainings by TRL's trainers, where TRL is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.papers.spar.training import Tuned, TuneOptions, linear_names, load_for_training
from paperworks.runs.files import new_folder


def trl_dpo_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    options: TuneOptions,
    beta: float,
    sft_weight: float,
    use_cpu: bool,
) -> Any:
    """TRL's ``DPOTrainer`` with the same loss; its SFT term averages over the tokens of a batch, not over pairs."""
    trl = _trl()
    arguments = trl.DPOConfig(
        **_arguments(folder, options, use_cpu),
        beta=beta,
        loss_type=["sigmoid", "sft"] if sft_weight else ["sigmoid"],
        loss_weights=[1.0, sft_weight] if sft_weight else None,
        precompute_ref_log_probs=True,
    )
    data = _dataset([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])
    return trl.DPOTrainer(
        model, args=arguments, train_dataset=data, processing_class=tokenizer, peft_config=_lora(model, options)
    )


def train_dpo_with_trl(
    model_dir: Any,
    rows: Sequence[Mapping[str, Any]],
    out_dir: Path,
    options: TuneOptions,
    beta: float,
    sft_weight: float,
    device: str,
) -> Tuned:
    """``train_dpo`` by TRL. It is not gone on from a checkpoint."""
    _trl()
    model, tokenizer = load_for_training(model_dir, device, options)
    with tempfile.TemporaryDirectory() as folder:
        use_cpu = model.device.type == "cpu"
        trainer = trl_dpo_trainer(model, tokenizer, rows, Path(folder), options, beta, sft_weight, use_cpu)
        return _finish(trainer, tokenizer, out_dir, len(rows))


def train_sft_with_trl(
    model_dir: Any, rows: Sequence[Mapping[str, Any]], out_dir: Path, options: TuneOptions, device: str
) -> Tuned:
    """``train_sft`` by TRL, with the loss on the last turn only."""
    trl = _trl()
    model, tokenizer = load_for_training(model_dir, device, options)
    data = _dataset([{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(
            **_arguments(Path(folder), options, model.device.type == "cpu"), completion_only_loss=True
        )
        trainer = trl.SFTTrainer(
            model, args=arguments, train_dataset=data, processing_class=tokenizer, peft_config=_lora(model, options)
        )
        return _finish(trainer, tokenizer, out_dir, len(rows))


def _finish(trainer: Any, tokenizer: Any, out_dir: Path, count: int) -> Tuned:
    trainer.train()
    losses = tuple(float(row["loss"]) for row in trainer.state.log_history if "loss" in row)
    model = trainer.model
    with new_folder(out_dir, "out_dir") as aside:
        (model.merge_and_unload() if hasattr(model, "merge_and_unload") else model).save_pretrained(aside)
        tokenizer.save_pretrained(aside)
    return Tuned(out_dir, count, 0, 0, losses)


def _arguments(folder: Path, options: TuneOptions, use_cpu: bool) -> dict[str, Any]:
    settings = options.settings
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": schedule,
        "warmup_steps": options.warmup,
        "num_train_epochs": settings.epochs,
        "max_steps": -1 if settings.steps is None else settings.steps,
        "weight_decay": settings.weight_decay,
        "adam_beta1": settings.betas[0],
        "adam_beta2": settings.betas[1],
        "max_grad_norm": settings.clip_norm,
        "max_length": options.max_length,
        "bf16": settings.precision == "bf16",
        "seed": settings.seed % 2**32,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "gradient_checkpointing": False,
        "use_cpu": use_cpu,
        "disable_tqdm": True,
    }


def _lora(model: Any, options: TuneOptions) -> Any:
    if not options.lora_rank:
        return None
    from peft import LoraConfig

    rank = options.lora_rank
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=linear_names(model), bias="none")


def _dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def _trl() -> Any:
    try:
        import trl
    except ImportError:
        raise InputError("trainer", "trl, which is not installed", "own, or TRL installed (pip install trl)") from None
    return trl
