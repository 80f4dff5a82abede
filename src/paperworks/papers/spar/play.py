"""The rounds of a run: self-play, training, scores; and the comparison of searches at the end."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.spar.config import Config
from paperworks.papers.spar.examples import read_chats
from paperworks.papers.spar.inference import Comparison, compare_at_inference
from paperworks.papers.spar.inputs import Inputs
from paperworks.papers.spar.judges import ask
from paperworks.papers.spar.models import Crew, Models, bundled, refiner_name
from paperworks.papers.spar.pairs import RefinerCaps
from paperworks.papers.spar.scores import ifeval_scores
from paperworks.papers.spar.search import TreeSearchRefiner
from paperworks.papers.spar.selfplay import RoundResult, SelfPlay
from paperworks.papers.spar.training import Tuned, TuneOptions, read_facts, train_dpo, train_sft, write_facts
from paperworks.papers.spar.words import word_chats
from paperworks.runs.files import remove, write_text

BUNDLED_RATE, BUNDLED_EPOCHS = 2e-4, 3.0
PAPER_RATE, PAPER_EPOCHS = 2e-7, 1.0
BUNDLED_INFERENCE = 15
START_RATE, START_EPOCHS = 5e-4, 2.0


@dataclass(frozen=True)
class Scored:
    """Greedy answers to the test prompts after a round, and what they obey.

    ``scores`` are IFEval's where prompts can be verified; ``passed`` is the share that the run's judge passes.
    """

    answers: dict[str, str]
    scores: dict[str, float]
    passed: float


class Game:
    """All rounds of a run.

    Attributes
    ----------
    results : what each round left.
    scored : before the first round, and after each.
    tuned : the actor's trainings, by round; None where there was no pair or nothing to tune.
    refiners : the refiner's trainings.
    started : the actor's training on chats before the first round.
    comparison : of searches at inference; None where it was left out.
    actor, refiner : the newest tuned folders.
    """

    def __init__(self, config: Config, run: runs.Run, inputs: Inputs, models: Models, judge: str) -> None:
        self.config, self.run, self.inputs, self.models, self.judge = config, run, inputs, models, judge
        self.results: list[RoundResult] = []
        self.scored: list[Scored] = []
        self.tuned: list[Tuned | None] = []
        self.refiners: list[Tuned | None] = []
        self.comparison: Comparison | None = None
        self.started: Tuned | None = None
        self.actor: Path | None = None
        self.refiner: Path | None = None
        self.response_tokens = 0

    @property
    def trains(self) -> bool:
        """Whether the actor is a folder that is tuned."""
        return self.config.train and self.config.endpoint is None

    def play(self) -> None:
        """Do everything, or what is left of it after a stop."""
        self._start()
        for number, prompts in enumerate(self.inputs.rounds, 1):
            self.run.step(f"round {number} of {len(self.inputs.rounds)}: responses, judgements, searches")
            with self._crew() as crew:
                if number == 1:
                    self.scored.append(self._score(0, crew))
                folder = self.run.state / f"round-{number}"
                self.results.append(self._self_play(crew, prompts, number).run_iteration(folder))
            self._keep(folder, number)
            self._train(folder, number)
            if self.trains:
                with self._crew() as crew:
                    self.scored.append(self._score(number, crew))
        if self.most and self.inputs.test:
            self.run.step("search at inference")
            with self._crew() as crew:
                self.comparison = self._compare(crew)
        for name, tuned in (("actor", self.actor), ("refiner", self.refiner)):
            if tuned is not None:
                shutil.copytree(tuned, self.run.output(name))

    @property
    def most(self) -> int:
        """Generated answers up to which searches are compared."""
        given = self.config.inference
        return given if given is not None else BUNDLED_INFERENCE if bundled(self.config) else 0

    def _start(self) -> None:
        """Stage 0: tune the actor and the refiner on chats before the first round, where there are any."""
        config, folder = self.config, self.run.state / "start"
        own = bundled(config) and config.prompts == "words" and config.seeds is None and config.start_chats is None
        if self.trains and (config.start_chats or own):
            self.run.step("stage 0: tuning the actor on chats")
            rows = (
                word_chats(config.seed) if config.start_chats is None else read_chats(config.start_chats, "start_chats")
            )
            out = self._tuned(folder, "actor", lambda out, kept: self._sft(config.model, rows, out, kept, own))
            self.actor, self.started = out.folder, out
        if config.train and config.refiner_start_chats:
            if not self.tunes_refiner:
                raise InputError("refiner_start_chats", "a refiner that cannot be tuned", "a refiner that is a folder")
            self.run.step("stage 0: tuning the refiner on chats")
            chats = read_chats(config.refiner_start_chats, "refiner_start_chats")
            first = config.model if refiner_name(config) == "same" else refiner_name(config)
            out = self._tuned(folder, "refiner", lambda out, kept: self._sft(first, chats, out, kept))
            self.refiner = out.folder

    @property
    def tunes_refiner(self) -> bool:
        """Whether the refiner is a folder."""
        kind = refiner_name(self.config)
        return kind not in ("editor", "endpoint") and (kind != "same" or self.config.endpoint is None)

    def _crew(self) -> Any:
        """The models as they are now."""
        return self.models.crew(self.actor, self.refiner, self.judge)

    def _search(self, crew: Crew) -> TreeSearchRefiner:
        config = self.config
        return TreeSearchRefiner(
            crew.refiner,
            crew.judge,
            algorithm=config.algorithm,
            branch=config.branch,
            select=config.select,
            max_depth=config.max_depth,
            budget=config.budget,
            gate=config.gate,
            select_method=config.select_method,
            seed=config.seed,
        )

    def _self_play(self, crew: Crew, prompts: list[Any], number: int) -> SelfPlay:
        config = self.config
        self.response_tokens = crew.response_tokens
        return SelfPlay(
            crew.actor,
            crew.refiner,
            prompts,
            crew.judge,
            self._search(crew),
            responses=config.responses,
            temperature=config.temperature,
            top_p=config.top_p,
            max_new_tokens=crew.response_tokens,
            pair_kind=config.pairs,
            caps=RefinerCaps(),
            seed=config.seed + 1000 * number,
            progress=self.run.progress,
        )

    def _keep(self, folder: Path, number: int) -> None:
        """Put the round's files among those that the user takes away."""
        target = self.run.output(f"round-{number}")
        target.mkdir(parents=True)
        for name in ("responses.jsonl", "judgements.jsonl", "trees.jsonl", "dpo.jsonl", "rft.jsonl"):
            shutil.copyfile(folder / name, target / name)

    def _train(self, folder: Path, number: int) -> None:
        result = self.results[-1]
        pairs = result.pairs if self.config.pairs == "refinement" else result.independent
        tuned = refined = None
        if self.trains and pairs:
            self.run.step(f"round {number}: tuning the actor on {len(pairs)} pairs")
            start = self.actor or self.config.model
            tuned = self._tuned(folder, "actor", lambda out, kept: self._dpo(start, pairs, out, kept))
            self.actor = tuned.folder
        kind = refiner_name(self.config)
        if self.config.train and self.tunes_refiner and result.refiner_rows:
            self.run.step(f"round {number}: tuning the refiner on {len(result.refiner_rows)} chats")
            first = self.refiner or (self.config.model if kind == "same" else kind)
            rows = result.refiner_rows
            refined = self._tuned(folder, "refiner", lambda out, kept: self._sft(first, rows, out, kept))
            self.refiner = refined.folder
        self.tuned.append(tuned)
        self.refiners.append(refined)

    def _tuned(self, folder: Path, name: str, train: Any) -> Tuned:
        """A training, or what it was if it was done before a stop."""
        facts, out = folder / f"{name}.json", folder / name
        if not (facts.exists() and out.is_dir()):
            remove(out)
            write_facts(train(out, folder / f"{name}-training"), facts)
            remove(folder / f"{name}-training")
        return read_facts(out, facts)

    def _dpo(self, start: Any, pairs: Any, out: Path, kept: Path) -> Tuned:
        config = self.config
        own = bundled(config)
        rate = config.learning_rate or (BUNDLED_RATE if own else PAPER_RATE)
        epochs = config.epochs or (BUNDLED_EPOCHS if own else PAPER_EPOCHS)
        options = self._options(TuneOptions.dpo(), rate, epochs, config.accumulation, config.max_length)
        return train_dpo(
            start,
            list(pairs),
            out,
            beta=config.beta,
            sft_weight=config.sft_weight,
            options=options,
            trainer=config.trainer,
            checkpoint_dir=kept,
            device=config.device,
            progress=self.run.progress,
        )

    def _sft(self, start: Any, rows: Any, out: Path, kept: Path, own: bool = False) -> Tuned:
        """Tune on chats; ``own`` is the bundled model on its own chats."""
        config = self.config
        rate, epochs = (START_RATE, START_EPOCHS) if own else (config.refiner_learning_rate, config.refiner_epochs)
        options = self._options(TuneOptions.sft(), rate, epochs, 2 * config.accumulation, 2 * config.max_length)
        return train_sft(
            start,
            list(rows),
            out,
            options=options,
            trainer=config.trainer,
            checkpoint_dir=kept,
            device=config.device,
            progress=self.run.progress,
        )

    def _options(self, base: TuneOptions, rate: float, epochs: float, accumulation: int, length: int) -> TuneOptions:
        from dataclasses import replace

        from paperworks.nn import resolve_device

        config = self.config
        on_gpu = resolve_device(config.device).type == "cuda"
        precision = config.precision if config.precision != "auto" else ("bf16" if on_gpu else "no")
        settings = replace(
            base.settings,
            learning_rate=rate,
            epochs=epochs,
            batch_size=config.batch_size,
            accumulation=accumulation,
            precision=precision,
            device=config.device,
            seed=config.seed % 2**31,
        )
        return replace(
            base,
            settings=settings,
            max_length=length,
            lora_rank=config.lora_rank,
            chat_template=self.models.template,
        )

    def _score(self, number: int, crew: Crew) -> Scored:
        """Greedy answers to the test prompts, scored; those of an earlier attempt are read."""
        from paperworks.language.generation import GenerationSettings, SampleRequest, generate_samples

        test = self.inputs.test
        path = self.run.state / f"scores-{number}.json"
        if not test:
            return Scored({}, {}, float("nan"))
        if not path.exists():
            settings = GenerationSettings(max_new_tokens=crew.response_tokens, seed=self.config.seed)
            texts = generate_samples(crew.actor, [SampleRequest(list(p.messages), settings, 0) for p in test])
            answers = [text.strip() for text in texts]
            verifiable = [(p, text) for p, text in zip(test, answers, strict=True) if p.instructions]
            judged = ask(crew.judge, list(zip(test, answers, strict=True)))
            scored = Scored(
                {p.id: text for p, text in zip(test, answers, strict=True)},
                ifeval_scores(verifiable) if verifiable else {},
                sum(one.label == 1 for one in judged) / len(judged),
            )
            write_text(path, json.dumps(asdict(scored)))
        found = Scored(**json.loads(path.read_text(encoding="utf-8")))
        lines = (json.dumps({"id": k, "response": v}, ensure_ascii=False) for k, v in found.answers.items())
        write_text(self.run.files / f"answers-{number}.jsonl", "".join(f"{line}\n" for line in lines))
        return found

    def _compare(self, crew: Crew) -> Comparison:
        config = self.config
        return compare_at_inference(
            self.inputs.test[: config.inference_prompts],
            crew.actor,
            crew.refiner,
            crew.judge,
            most=self.most,
            search=self._search(crew),
            temperature=config.temperature or 0.9,
            top_p=config.top_p,
            max_new_tokens=crew.response_tokens,
            seed=config.seed + 500_000,
        )
