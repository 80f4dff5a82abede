"""The recipe's main action: a model measured on held-out code, trained on the rest, and measured again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.language import read_texts
from paperworks.papers.codegen2.actions import given_groups, save_all
from paperworks.papers.codegen2.checkpoints import Loaded, load_code_model
from paperworks.papers.codegen2.config import Config
from paperworks.papers.codegen2.evaluation import KINDS, evaluate_infill
from paperworks.papers.codegen2.export import require_gguf
from paperworks.papers.codegen2.fitting import Lora, Trained, train
from paperworks.papers.codegen2.models import context_length, fused_kernels
from paperworks.papers.codegen2.packing import pack, tokenize
from paperworks.papers.codegen2.reporting import Code, adaptation_report
from paperworks.papers.codegen2.repository import read_code
from paperworks.papers.codegen2.stdlib import HELD_OUT_PACKAGE, stdlib_folder
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

LONGEST = 2048
FEW_FILES = 5
"""With fewer files, the ends of files are held out instead of whole files."""


def adapt(config: Config, run: runs.Run) -> runs.Report:
    """Train a model on the user's code, and report what it does before and after."""
    if config.gguf:
        require_gguf()
    run.step(f"reading {config.code}")
    code = read(config, run.rng("split"))
    prose = [] if config.prose is None else read_texts(config.prose, "prose")
    run.step("loading the model")
    loaded = load_code_model(
        config.model,
        groups=given_groups(config),
        device=config.device,
        masks=config.masks,
        add_tokens=True,
        fim=config.objective in ("psm", "spm"),
        modes=config.objective == "ul2",
    )
    length = min(context_length(loaded.model), LONGEST) if config.length is None else config.length
    if length > context_length(loaded.model):
        raise InputError("length", length, f"at most {context_length(loaded.model)}, the model's context")
    measure = _Measure(config, run, code.test, length)
    before = measure(loaded, "before")
    trained = _train(config, run, loaded, code.train, prose, length)
    after = measure(loaded, "after")
    files = save_all(config, run, loaded)
    if trained.adapter is not None:
        trained.save_adapter(run.output("adapter"))
        first = f", after {len(loaded.added)} rows are added" if loaded.added else ""
        files.append(
            runs.ReportFile("adapter", f"the adapters alone, for peft to put on the model that was given{first}")
        )
    write_text(run.output("metrics.json"), json.dumps({"before": _plain(before), "after": _plain(after)}, indent=1))
    files.append(runs.ReportFile("metrics.json", "every figure before and after"))
    write_text(run.output("code.json"), json.dumps(_listing(code), indent=1))
    files.append(runs.ReportFile("code.json", "every file that was read or passed over, and why"))
    return adaptation_report(loaded, code, prose, trained, before, after, files)


def read(config: Config, rng: np.random.Generator) -> Code:
    """The user's code in two parts: whole files are held out, or the ends of files where there are few."""
    named = config.code == "python-email"
    path = stdlib_folder() / HELD_OUT_PACKAGE if named else Path(config.code)
    found = read_code(path, config.languages)
    count = len(found.files)
    if count < FEW_FILES:
        parts = [_cut(text, config.test_size) for text in found.texts]
        train_texts = [first for first, _ in parts if first.strip()]
        test_texts = [last for _, last in parts if last.strip()]
        note = f"the last {config.test_size:.0%} of each file's lines held out"
    else:
        held = set(rng.permutation(count)[: max(1, round(config.test_size * count))].tolist())
        train_texts = [text for i, text in enumerate(found.texts) if i not in held]
        test_texts = [text for i, text in enumerate(found.texts) if i in held]
        note = f"{len(test_texts)} files held out"
    if not train_texts or not test_texts:
        raise InputError(
            "code", f"{count} files with too few lines", "code enough for a part to train on and one to measure on"
        )
    return Code(found, train_texts, test_texts, note)


def _cut(text: str, share: float) -> tuple[str, str]:
    lines = text.rstrip().split("\n")
    place = len(lines) - max(1, round(share * len(lines)))
    return "\n".join(lines[:place]), "\n".join(lines[place:])


class _Measure:
    """Figures on held-out code, kept in the run's state: a resumed run does not measure again."""

    def __init__(self, config: Config, run: runs.Run, texts: Sequence[str], length: int) -> None:
        self.config, self.run, self.texts, self.length = config, run, list(texts), length

    def __call__(self, loaded: Loaded, name: str) -> dict[str, Any]:
        path = self.run.state / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        self.run.step(f"measuring on held-out code, {name} training")
        with fused_kernels(loaded.model):
            kept = self._measured(loaded, name)
        write_text(path, json.dumps(kept))
        return kept

    def _measured(self, loaded: Loaded, name: str) -> dict[str, Any]:
        kept: dict[str, Any] = {"kinds": {}, "left": self._left_to_right(loaded)}
        for kind in KINDS:
            part = self.run.state / f"{name}-{kind}.json"
            if not part.is_file():
                write_text(part, json.dumps(self._holes(loaded, kind)))
            scores = json.loads(part.read_text(encoding="utf-8"))
            if scores:
                kept["kinds"][kind] = scores
        return kept

    def _left_to_right(self, loaded: Loaded) -> dict[str, float]:
        """Loss per token and bits per byte from left to right, on windows of held-out code."""
        from paperworks.language import Calibration, window_losses

        tokenizer = loaded.tokenizer
        end = tokenizer.eos_token_id
        packed = pack(tokenize(tokenizer, self.texts), self.length, eos_id=end, least=2, buffer=0)
        sequences = packed.sequences[:: max(1, len(packed.sequences) // 64)]
        import torch

        ids = torch.full((len(sequences), max(map(len, sequences))), end)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.from_numpy(sequence).long()
            mask[row, : len(sequence)] = 1
        losses, counts = window_losses(loaded.model, Calibration(ids, mask), progress=self.run.progress)
        per_token = float(losses.sum() / counts.sum())
        letters = sum(len(text.encode()) for text in self.texts) + len(self.texts)
        return {"nll_per_token": per_token, "bits_per_byte": per_token / math.log(2) * packed.tokens / letters}

    def _holes(self, loaded: Loaded, kind: Any) -> dict[str, Any]:
        """Scores of one kind with its holes; empty where the code has no place for one."""
        config = self.config
        call: Callable[[int], Any] = lambda count: evaluate_infill(  # noqa: E731
            loaded.model,
            loaded.tokenizer,
            self.texts,
            kind,
            n=count,
            max_new_tokens=min(config.max_new_tokens, self.length // 4),
            seed=config.seed,
            temperature=config.temperature,
            top_p=config.top_p if config.temperature else 1.0,
            progress=self.run.progress,
        )
        count = config.holes
        while True:
            try:
                scores = call(count)
                break
            except InputError as error:
                if error.field != "n":
                    raise
                if count <= 2:
                    return {}
                count //= 2  # little code: fewer holes, and the table says how many
        low, high = scores.exact_match.low, scores.exact_match.high
        examples = [
            {
                "prefix": hole.prefix[-600:],
                "middle": hole.middle,
                "suffix": hole.suffix[:300],
                "fill": fill.text,
                "exact": bool(exact),
            }
            for hole, fill, exact in zip(scores.holes, scores.fills, scores.exact, strict=True)
        ]
        return scores.to_dict() | {"exact_low": low, "exact_high": high, "examples": examples}


def settings_of(config: Config, loaded: Loaded) -> TrainSettings:
    """The options of the training loop."""
    rate = config.learning_rate
    if rate is None:
        rate = 1e-3 if loaded.bundled else 2e-4 if config.method == "lora" else 1e-5
    return TrainSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=rate,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        schedule="cosine",
        final_factor=0.1,
        warmup_steps=config.warmup_steps,
        checkpoint_every=50,
        precision=config.precision,
        device=config.device,
        seed=config.seed % 2**31,
    )


def _train(config: Config, run: runs.Run, loaded: Loaded, texts: list[str], prose: list[str], length: int) -> Trained:
    sources = {"code": texts} | ({"prose": prose} if prose else {})
    run.step(f"training with the objective {config.objective}")
    trained = train(
        loaded.model,
        loaded.tokenizer,
        sources,
        objective=config.objective,
        settings=settings_of(config, loaded),
        length=length,
        p_causal=config.p_causal,
        ratio=(config.lowest_ratio, config.highest_ratio),
        span=(1, config.longest_span),
        z_loss=config.z_loss,
        lora=_lora(config, loaded) if config.method == "lora" else None,
        checkpoint_dir=run.state / "training",
        progress=run.progress,
    )
    loaded.model = trained.model
    return trained


def _lora(config: Config, loaded: Loaded) -> Lora:
    """Adapters; rows of tokens that were added are trained beside them: nothing else gives them a meaning."""
    rows = tuple(sorted(loaded.tokenizer.convert_tokens_to_ids(loaded.added)))
    return Lora(config.rank, config.alpha, token_rows=rows)


def _plain(measured: dict[str, Any]) -> dict[str, Any]:
    kinds = {k: {n: v for n, v in s.items() if n != "examples"} for k, s in measured["kinds"].items()}
    return {"left_to_right": measured["left"], "infill": kinds}


def _listing(code: Code) -> dict[str, Any]:
    read_files = [{"path": f.path, "language": f.language, "size": len(f.text.encode())} for f in code.found.files]
    return {"read": read_files, "passed_over": code.found.skipped}
