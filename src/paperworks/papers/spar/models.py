"""The models of a run: local folders, endpoints, programs, with their answers on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.errors import InputError
from paperworks.language.generation import CachedGenerator, EndpointGenerator, Generator, TransformersGenerator
from paperworks.papers.spar.config import Config
from paperworks.papers.spar.judges import CompositeJudge, Judge, RuleJudge, VoteJudge
from paperworks.papers.spar.prompts import InstructionPrompt
from paperworks.papers.spar.refiners import ModelRefiner, Refiner, RuleEditor

BUNDLED_TOKENS = 28
RESPONSE_TOKENS = 2048


@dataclass(frozen=True)
class Crew:
    """Who answers, judges and repairs in one round.

    Attributes
    ----------
    actor, refiner, judge : of the round.
    response_tokens : tokens of a response, as many as the actor's context allows.
    """

    actor: Generator
    refiner: Refiner
    judge: Judge
    response_tokens: int


def bundled(config: Config) -> bool:
    """Whether the actor is the bundled model."""
    return config.model is None and config.endpoint is None


def refiner_name(config: Config) -> str:
    """ "editor", "same", "endpoint", or the refiner's folder."""
    if config.refiner_endpoint:
        return "endpoint"
    return config.refiner or ("editor" if bundled(config) else "same")


def judge_name(config: Config, prompts: list[InstructionPrompt]) -> str:
    """rule, model or both, from the option and the prompts."""
    verifiable = [bool(one.instructions) for one in prompts]
    if config.judge != "auto":
        return config.judge
    if refiner_name(config) == "editor":
        return "rule"
    return "both" if any(verifiable) else "model"


def template_text(config: Config) -> str | None:
    """The chat template for tokenizers without one: the user's, or the plain one for the bundled model."""
    from paperworks.papers.spar.examples import PLAIN_TEMPLATE

    if config.chat_template is None:
        return PLAIN_TEMPLATE if bundled(config) else None
    from paperworks.papers.spar.prompts import read_text

    text = read_text(Path(config.chat_template).expanduser(), "chat_template")
    _check_template(text)
    return text


def _check_template(text: str) -> None:
    """Raise InputError for a template that does not put the messages in."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        made = ImmutableSandboxedEnvironment().from_string(text)
        shown = made.render(
            messages=[{"role": "user", "content": "a question"}], add_generation_prompt=True, bos_token="", eos_token=""
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise InputError("chat_template", f"a template that fails ({error})", "a Jinja template") from None
    if "a question" not in shown:
        raise InputError("chat_template", "a template that leaves the messages out", "one that writes messages")


def _stage(folder: Path | None) -> str:
    """The training that a model comes from: the name of its round."""
    return "untuned" if folder is None else folder.parent.name


class Models:
    """Makes the crews of all rounds. Local models are loaded once for each folder in turn."""

    def __init__(self, config: Config, run: runs.Run, template: str | None) -> None:
        self.config, self.run, self.template = config, run, template

    @contextmanager
    def crew(self, actor: Path | None, refiner: Path | None, judge: str) -> Iterator[Crew]:
        """The models of a round. Their answers are kept by the training that they come from.

        ``actor`` and ``refiner`` are tuned folders; None are those that the options name.
        """
        with ExitStack() as stack:
            first = stack.enter_context(self._cached(self._actor(actor), f"actor {_stage(actor)}"))
            tokens = self._tokens(first.generator)
            kind = refiner_name(self.config)
            if kind == "editor":
                editor = RuleEditor(self.config.editor_repair, self.config.editor_harm, self.config.seed)
                yield Crew(first, editor, RuleJudge(), tokens)
                return
            second = stack.enter_context(
                self._cached(self._refiner(first.generator, actor, refiner), f"refiner {_stage(refiner)}")
            )
            yield Crew(first, self._model_refiner(second), self._judge(second, judge), tokens)

    def _cached(self, generator: Generator, role: str) -> CachedGenerator:
        path = self.run.state / "answers.sqlite"
        known = getattr(generator, "identity", "") if isinstance(generator, EndpointGenerator) else ""
        return CachedGenerator(generator, path, identity=f"{role}|{known}", progress=self.run.progress)

    def _actor(self, folder: Path | None) -> Generator:
        if self.config.endpoint and folder is None:
            return self._endpoint(self.config.endpoint, self.config.endpoint_model)
        return self._local(folder or self.config.model, "model")

    def _refiner(self, actor: Generator, actor_folder: Path | None, folder: Path | None) -> Generator:
        """The same model as the actor shares its weights in memory while both are untuned."""
        kind = refiner_name(self.config)
        if folder is not None:
            return self._local(folder, "refiner")
        if kind == "endpoint":
            return self._endpoint(str(self.config.refiner_endpoint), self.config.refiner_endpoint_model)
        if kind == "same":
            return actor if actor_folder is None else self._actor(None)
        return self._local(kind, "refiner")

    def _endpoint(self, addresses: str, model: str | None) -> EndpointGenerator:
        urls = [one.strip() for one in addresses.split(",") if one.strip()]
        return EndpointGenerator(
            urls,
            model or "",
            parallel=self.config.parallel,
            attempts=self.config.attempts,
            timeout=self.config.timeout,
            key_variable=self.config.key_variable,
        )

    def _local(self, folder: Any, field: str) -> TransformersGenerator:
        from paperworks.language import load_model
        from paperworks.nn import resolve_device
        from paperworks.papers.spar.training import with_template

        try:
            place = resolve_device(self.config.device)
            model, tokenizer = load_model(folder, "float32" if place.type == "cpu" else None, place)
        except InputError as error:
            raise InputError(field if error.field == "model" else error.field, error.found, error.expected) from None
        with_template(tokenizer, self.template)
        return TransformersGenerator(model, tokenizer, batch_size=self.config.generation_batch)

    def _tokens(self, generator: Generator) -> int:
        return self.fitting(generator, self.config.max_new_tokens or self._default_tokens())

    def _default_tokens(self) -> int:
        return BUNDLED_TOKENS if bundled(self.config) else RESPONSE_TOKENS

    def fitting(self, generator: Any, wanted: int) -> int:
        """So many new tokens, but at most half of a local model's context."""
        from paperworks.language.generation.local import context_of

        context = context_of(generator.model) if isinstance(generator, TransformersGenerator) else None
        return wanted if context is None else max(1, min(wanted, context // 2))

    def _model_refiner(self, generator: CachedGenerator) -> ModelRefiner:
        config = self.config
        tokens = self.fitting(generator.generator, config.refine_tokens)
        return ModelRefiner(generator, config.refine_temperature, 1.0, tokens, seed=config.seed)

    def _judge(self, generator: CachedGenerator, kind: str) -> Judge:
        config = self.config
        if kind == "rule":
            return RuleJudge()
        votes = VoteJudge(
            generator,
            votes=config.votes,
            temperature=config.judge_temperature,
            max_new_tokens=self.fitting(generator.generator, config.judge_tokens),
            strict_official_parser=config.strict_official_parser,
            seed=config.seed,
        )
        return votes if kind == "model" else CompositeJudge(votes)
