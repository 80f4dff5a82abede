"""Trainers: what tunes a model on the samples selected so far, and lets it answer their prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, InstructionRecord, TransformersGenerator
from paperworks.language.generation.local import context_of, prompt_ids
from paperworks.papers.diversify_conquer.pool import prompt_text
from paperworks.papers.diversify_conquer.scorers import has_chat, run_command
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings


class Trainer(Protocol):
    """Tunes and answers."""

    def train(self, round: int, records: Sequence[InstructionRecord], probe: Sequence[InstructionRecord] = ()) -> Any:
        """Tune on all records selected so far, and return the model. ``probe`` are the prompts to be answered."""
        ...

    def generate(self, model: Any, records: Sequence[InstructionRecord]) -> list[str]:
        """The model's own answers to the records' prompts."""
        ...


@dataclass(frozen=True)
class Tuned:
    """A model of transformers, its tokenizer, and the round that it was tuned in."""

    model: Any
    tokenizer: Any
    round: int


class LanguageModelTrainer:
    """Tunes a causal language model of transformers with the shared training loop; the loss is on the answers only.

    Parameters
    ----------
    model_dir : a Hugging Face folder; None is the bundled language model.
    settings : of the loop; by default 3 epochs of AdamW in batches of at most 16 examples at rate 2e-5 (3e-4 for the
        bundled model), linear, with a warm-up of 3 % (the authors' scripts).
    restart : every round starts from the base model (the authors' code); False goes on from the last round's.
    max_length : tokens of prompt and answer; longer prompts lose their beginning, longer answers their end.
    generation : how answers are generated; greedy by default.
    checkpoint_dir : where each round keeps its checkpoints, its model and its answers, so that a stopped run goes on.
    """

    def __init__(
        self,
        model_dir: str | Path | None = None,
        settings: TrainSettings | None = None,
        *,
        restart: bool = True,
        max_length: int = 2048,
        generation: GenerationSettings | None = None,
        checkpoint_dir: Path | None = None,
        device: str = "auto",
        progress: Progress = no_progress,
    ) -> None:
        rate = 3e-4 if model_dir is None else 2e-5
        self.settings = settings or TrainSettings(epochs=3, batch_size=16, learning_rate=rate, device=device)
        self.model_dir, self.restart, self.max_length = model_dir, restart, max_length
        self.generation = generation or GenerationSettings(max_new_tokens=512)
        self.checkpoint_dir, self.device, self.progress = checkpoint_dir, device, progress
        self._last: Tuned | None = None

    def base(self) -> Any:
        """(model, tokenizer) as they are on disk, in float32 for training."""
        from paperworks.language import load_model

        return load_model(self.model_dir, "float32", self.device)

    def train(self, round: int, records: Sequence[InstructionRecord], probe: Sequence[InstructionRecord] = ()) -> Any:
        """Tune; returns the ``Tuned`` model."""
        from paperworks.runs.files import new_folder, remove
        from paperworks.training import Rows, next_token_loss, train

        done = self._folder(f"model-{round}")
        if done is not None and done.is_dir():  # this round was trained before a stop
            model, tokenizer = self._load(done)
            self._last = Tuned(model, tokenizer, round)
            return self._last
        model, tokenizer = self._start(round)
        limit = min(self.max_length, context_of(model) or self.max_length)
        rows = [row for row in (example(tokenizer, r, limit) for r in records) if row is not None]
        if not rows:
            raise InputError("data", "no record with an answer", "records with answers")
        checkpoints = self._folder(f"round-{round}")
        train(
            model,
            Rows(rows, collate=pad_examples),
            self._settings(len(rows)),
            loss=next_token_loss,
            checkpoint_dir=checkpoints,
            progress=self.progress,
        )
        self._last = Tuned(model, tokenizer, round)
        if done is not None and checkpoints is not None:
            with new_folder(done) as aside:
                model.save_pretrained(aside)
                tokenizer.save_pretrained(aside)
            remove(checkpoints)
            before = self._folder(f"model-{round - 1}")
            assert before is not None
            remove(before)
        return self._last

    def generate(self, model: Any, records: Sequence[InstructionRecord]) -> list[str]:
        """The ``Tuned`` model's own answers."""
        from paperworks.language.generation import CachedGenerator

        generator = TransformersGenerator(model.model, model.tokenizer, batch_size=16)
        limit, settings = context_of(model.model), self.generation
        if limit is not None and settings.max_new_tokens >= limit:
            raise InputError("max_new_tokens", settings.max_new_tokens, f"below {limit}, the model's context")
        chat = has_chat(model.tokenizer)
        prompts: list[Any] = [
            list(r.prompt)
            if chat
            else cut_prompt(model.tokenizer, prompt_text(r) or "\n", limit, settings.max_new_tokens)
            for r in records
        ]
        kept = self._folder("answers.sqlite")
        if kept is None:
            return [texts[0] for texts in generator.generate(prompts, settings)]
        identity = f"round {model.round}"
        with CachedGenerator(generator, kept, identity=identity, progress=self.progress) as cached:
            return [texts[0] for texts in cached.generate(prompts, settings)]

    def _start(self, round: int) -> Any:
        """The model that a round begins with: the base, or the last round's."""
        if not self.restart and round > 1:
            before = self._folder(f"model-{round - 1}")
            if self._last is not None and self._last.round == round - 1:
                return self._last.model, self._last.tokenizer
            if before is not None and before.is_dir():
                return self._load(before)
        return self.base()

    def _load(self, folder: Path) -> Any:
        from paperworks.language import load_model

        return load_model(folder, "float32", self.device)

    def _folder(self, name: str) -> Path | None:
        return None if self.checkpoint_dir is None else Path(self.checkpoint_dir) / name

    def _settings(self, rows: int) -> TrainSettings:
        from dataclasses import replace

        given = self.settings
        batch = min(given.batch_size, rows)
        steps = replace(given, batch_size=batch).total_steps(rows)
        return replace(given, batch_size=batch, warmup_steps=given.warmup_steps or round(0.03 * steps))


class CommandTrainer:
    """A program of the user that tunes and answers: ``command`` with ``{train}``, ``{prompts}`` and ``{responses}``.

    ``{train}`` is a JSON-lines file of all samples selected so far (messages), ``{prompts}`` one with the prompts to be
    answered (id, prompt). The program writes ``{responses}``: JSON lines with id and response. ``{round}`` is the
    round, ``{folder}`` a folder for its own files, the same in all rounds.
    """

    def __init__(self, command: str, folder: str | Path) -> None:
        if "{responses}" not in command or "{train}" not in command:
            raise InputError("trainer_command", repr(command), "a command with {train} and {responses}")
        self.command, self.folder = command, Path(folder)

    def train(self, round: int, records: Sequence[InstructionRecord], probe: Sequence[InstructionRecord] = ()) -> Any:
        """Run the program; returns the answers by id."""
        from paperworks.runs.files import write_text

        place = self.folder / f"round-{round}"
        place.mkdir(parents=True, exist_ok=True)
        answers = place / "responses.jsonl"
        if not answers.is_file():  # a round that was done before a stop is not done again
            lines = (json.dumps({"id": r.id, "messages": [dict(m) for m in r.messages]}) for r in records)
            write_text(place / "train.jsonl", "".join(f"{line}\n" for line in lines))
            asked = (json.dumps({"id": r.id, "prompt": prompt_text(r)}) for r in (probe or records))
            write_text(place / "prompts.jsonl", "".join(f"{line}\n" for line in asked))
            aside = place / "responses.partial.jsonl"
            aside.unlink(missing_ok=True)
            places = {"train": place / "train.jsonl", "prompts": place / "prompts.jsonl", "responses": aside}
            words = {name: str(path) for name, path in places.items()}
            run_command("trainer_command", self.command, words | {"round": str(round), "folder": str(self.folder)})
            if not aside.is_file():
                raise InputError("trainer_command", f"no file {aside}", "JSON lines with id and response")
            aside.replace(answers)
        try:
            with answers.open(encoding="utf-8") as source:
                found = [json.loads(line) for line in source if line.strip()]
            return {str(one["id"]): str(one["response"]) for one in found}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("trainer_command", f"{answers}: {error}", "JSON lines with id and response") from None

    def generate(self, model: Any, records: Sequence[InstructionRecord]) -> list[str]:
        """The answers that the program wrote."""
        missing = [r.id for r in records if r.id not in model]
        if missing:
            raise InputError("trainer_command", f"no response for id {missing[0]!r}", "one for each prompt")
        return [model[r.id] for r in records]


def example(tokenizer: Any, record: InstructionRecord, limit: int) -> dict[str, Any] | None:
    """Token ids of prompt and answer, and labels that are -100 on the prompt; None without an answer."""
    if not record.response or not record.response.strip():
        return None
    chat = has_chat(tokenizer)
    before = prompt_ids(tokenizer, list(record.prompt) if chat else prompt_text(record))
    text = record.response if chat else f" {record.response.strip()}"
    answer = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token_id is not None:
        answer.append(tokenizer.eos_token_id)
    room = min(len(answer), max(limit - len(before), limit // 2))
    answer = answer[:room]
    before = before[-(limit - len(answer)) :]
    return {"input_ids": before + answer, "labels": [-100] * len(before) + answer}


def pad_examples(rows: list[Any]) -> dict[str, Any]:
    """A batch of ``example``s, padded on the right."""
    import torch

    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def cut_prompt(tokenizer: Any, prompt: str, limit: int | None, new_tokens: int) -> str:
    """The end of a prompt that leaves room for so many tokens of an answer."""
    ids = prompt_ids(tokenizer, prompt)
    if limit is None or len(ids) + new_tokens <= limit:
        return prompt
    text = str(tokenizer.decode(ids[-max(1, limit - new_tokens - 8) :], skip_special_tokens=True))
    return text or prompt[-1:]


def fit_context(model: Any, tokenizer: Any, prompt: str, response: str) -> tuple[str, str]:
    """Prompt and answer as texts that fit the model together, with the tokenizer's chat template where it has one.

    Without a template the answer is put after a blank.
    """
    limit, chat = context_of(model), has_chat(tokenizer)
    answer = response if chat or response[:1].isspace() else f" {response}"
    if not prompt.strip():
        prompt = "\n"
    whole = prompt_ids(tokenizer, prompt, chat=chat)
    after = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if limit is None or len(whole) + len(after) <= limit - 8:
        return prompt, answer
    before = list(tokenizer(prompt, add_special_tokens=False)["input_ids"]) if chat else whole
    room = max(2, limit - 8 - (len(whole) - len(before)))  # beside the tokens of the template
    after = after[: max(room // 2, room - len(before))]
    before = before[-max(1, room - len(after)) :]
    return (
        str(tokenizer.decode(before, skip_special_tokens=True)) or "\n",
        str(tokenizer.decode(after, skip_special_tokens=True)) or answer[:4],
    )
