"""Hypotheses from a language model: a local one, one behind a server, or any generator."""

from __future__ import annotations

import ast
import copy
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, Generator, Prompt
from paperworks.papers.ladder.backends.offline import OfflineContrastBackend
from paperworks.papers.ladder.hypotheses import Backend, Hypothesis

ATTEMPTS = 3
MAX_NEW_TOKENS = 2048
N_TESTS = 5
JSON_MODE = {"response_format": {"type": "json_object"}}
_FENCE = re.compile(r"```(?:\w+)?\s*\n(.*?)```", re.DOTALL)


def hypothesis_prompt(class_name: str, sentences: Sequence[str], n: int, task: str = "") -> str:
    """The request for hypotheses, with the sentences numbered, best first."""
    context = task or f"An image or text classifier was trained; one of its classes is {class_name!r}."
    listed = "\n".join(f"{i + 1}. {sentence}" for i, sentence in enumerate(sentences))
    return (
        f"{context}\n"
        f"Below are {len(sentences)} sentences about samples of the class {class_name!r}. For this class, the mean "
        "feature of samples that were classified correctly minus that of samples that were classified wrongly was "
        "compared with every sentence. The list has the most similar sentences, in descending similarity. It therefore "
        "describes what is present in correctly classified samples and missing in wrongly classified ones.\n\n"
        f"{listed}\n\n"
        f"State up to {n} hypotheses about attributes that the classifier leans on. Rules:\n"
        '- An attribute must be specific: "blue", not "colour"; "tube", not "device".\n'
        "- Use only attributes that are in the sentences. Prefer those that recur.\n"
        f"- The class {class_name!r} itself is never an attribute.\n"
        "- Give as many different hypotheses as the sentences support.\n"
        f"- For each one write {N_TESTS} test sentences that name the class together with the attribute.\n"
        "Answer with JSON alone, in this form:\n"
        '{"hypotheses": {"H1": "The classifier is biased toward <attribute>", ...}, '
        '"prompts": {"H1_<attribute>": ["test sentence", ...], ...}}'
    )


def parse_hypotheses(answer: str, n: int) -> list[Hypothesis]:
    """Hypotheses from an answer. Nothing of it is ever executed.

    Read as JSON, then as a fenced block of JSON, then as a fenced block of a Python literal (``ast.literal_eval``).
    Raises InputError for anything else, or an answer without test sentences.
    """
    found = answer_mapping(answer)
    statements = found.get("hypotheses", found.get("hypothesis_map", {}))
    prompts = found.get("prompts", found.get("prompt_map", {}))
    if not isinstance(statements, Mapping) or not isinstance(prompts, Mapping):
        raise InputError("answer", repr(answer)[:80], "objects hypotheses and prompts")
    made = []
    for key, tests in prompts.items():
        number, _, attribute = str(key).partition("_")
        sentences = [t.strip() for t in tests if isinstance(t, str) and t.strip()] if isinstance(tests, list) else []
        if not sentences:
            continue
        name = attribute.replace("_", " ").strip() or str(key)
        statement = statements.get(number) or f"The classifier is biased toward {name}."
        made.append(Hypothesis(name, str(statement), tuple(sentences[:N_TESTS])))
    if not made:
        raise InputError("answer", repr(answer)[:80], "at least one hypothesis with test sentences")
    return made[:n]


def answer_mapping(answer: str) -> Mapping[str, Any]:
    """The object in an answer, never executed. Raises InputError for none."""
    fenced = _FENCE.findall(answer)
    for text in (answer.strip(), *fenced):
        try:
            found = json.loads(text)
        except ValueError:
            continue
        if isinstance(found, Mapping):
            return found
    for text in fenced:
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, Mapping):
            return found
    raise InputError("answer", repr(answer)[:80], "JSON")


class GeneratedBackend:
    """Hypotheses from any generator of ``paperworks.language.generation``, at temperature 0.

    An answer that cannot be read is asked for again, twice, and then the offline contrast stands in, with a warning.

    Parameters
    ----------
    generator : the language model.
    task : one sentence on the classifier and its data, put first in the prompt.
    max_new_tokens : of an answer.
    fallback : what stands in; ``OfflineContrastBackend()`` by default.

    Attributes
    ----------
    answers : the answers, in the order asked.
    fell_back : class names for which the fallback stood in.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        task: str = "",
        max_new_tokens: int = MAX_NEW_TOKENS,
        fallback: Backend | None = None,
    ) -> None:
        self.generator, self.task, self.max_new_tokens = generator, task, max_new_tokens
        self.fallback: Backend = fallback or OfflineContrastBackend()
        self.answers: list[str] = []
        self.fell_back: list[str] = []

    @property
    def identity(self) -> str:
        """What decides the hypotheses: the generator, the task and the length. No key is part of it."""
        name = getattr(self.generator, "identity", type(self.generator).__name__)
        return f"generated|{name}|{self.task}|{self.max_new_tokens}"

    def bind(self, encode: Any) -> GeneratedBackend:
        """The same with a fallback that has the text encoder; ``answers`` and ``fell_back`` are those of both."""
        bind = getattr(self.fallback, "bind", None)
        if bind is None:
            return self
        made = copy.copy(self)
        made.fallback = bind(encode)
        return made

    def propose(self, class_name: str, sentences: Sequence[str], corpus: Sequence[str], n: int) -> list[Hypothesis]:
        """At most ``n`` hypotheses of the model."""
        prompt = hypothesis_prompt(class_name, sentences, n, self.task)
        settings = GenerationSettings(max_new_tokens=self.max_new_tokens, temperature=0.0)
        said = ""
        for attempt in range(ATTEMPTS):
            again = f"{prompt}\n\nThe last answer could not be read ({said}). Answer with the JSON object alone."
            request: Prompt = prompt if attempt == 0 else again
            try:
                answer = self._answer(request, settings)
            except InputError as error:
                if error.field.startswith("prompts"):  # longer than the model's context: asking again does not help
                    said = f"{error.found}"
                    break
                raise
            self.answers.append(answer)
            try:
                return parse_hypotheses(answer, n)
            except InputError as error:
                said = f"attempt {attempt + 1}: {error.expected} expected"
        self.fell_back.append(class_name)
        warnings.warn(
            f"The language model gave no hypotheses that can be read for {class_name!r} ({said}); the offline contrast "
            "stands in.",
            stacklevel=2,
        )
        return self.fallback.propose(class_name, sentences, corpus, n)

    def _answer(self, request: Prompt, settings: GenerationSettings) -> str:
        return self.generator.generate([request], settings)[0][0]


class TransformersBackend(GeneratedBackend):
    """A causal language model from a Hugging Face folder on this machine, greedy, through its chat template if it has
    one.

    Parameters
    ----------
    path : the folder.
    options : ``dtype``, ``device`` and ``batch_size`` of ``TransformersGenerator.load``.
    task, max_new_tokens, fallback : see ``GeneratedBackend``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        task: str = "",
        max_new_tokens: int = MAX_NEW_TOKENS,
        fallback: Backend | None = None,
        **options: Any,
    ) -> None:
        from paperworks.language.generation import TransformersGenerator

        generator = TransformersGenerator.load(path, **options)
        generator.chat = bool(getattr(generator.tokenizer, "chat_template", None))
        super().__init__(generator, task=task, max_new_tokens=max_new_tokens, fallback=fallback)


class OpenAICompatibleBackend(GeneratedBackend):
    """A chat model behind an OpenAI-compatible server: OpenAI, vLLM, llama.cpp, Ollama.

    It is asked for JSON (``response_format``); a server that refuses this field is asked without it from then on.

    Parameters
    ----------
    base_url : such as ``http://localhost:8000/v1``.
    model : its name at the server.
    api_key_env : environment variable with the key. The key is in no message, report or cache.
    options : further ones of ``EndpointGenerator``.
    task, max_new_tokens, fallback : see ``GeneratedBackend``.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        *,
        task: str = "",
        max_new_tokens: int = MAX_NEW_TOKENS,
        fallback: Backend | None = None,
        **options: Any,
    ) -> None:
        from paperworks.language.generation import EndpointGenerator

        generator = EndpointGenerator(base_url, model, key_variable=api_key_env, fields=JSON_MODE, **options)
        super().__init__(generator, task=task, max_new_tokens=max_new_tokens, fallback=fallback)
        self._endpoint = generator
        self._identity = super().identity

    @property
    def identity(self) -> str:
        """What decides the hypotheses; the same whether or not the server knows JSON mode."""
        return self._identity

    def _answer(self, request: Prompt, settings: GenerationSettings) -> str:
        try:
            return super()._answer(request, settings)
        except InputError as error:
            if not self._endpoint.fields or not re.search(r"status (400|404|415|422)", error.found):
                raise
            self._endpoint.fields = {}
            return super()._answer(request, settings)
