"""What generates text, and how it is asked."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

from paperworks.errors import InputError
from paperworks.parameters import check_seed


class Message(TypedDict):
    """One turn of a chat: ``role`` is system, user or assistant."""

    role: str
    content: str


class ImageMessage(Message, total=False):
    """A turn with images beside its text. Made by ``image_message``; only servers that see images take it."""

    images: Sequence[str]


Prompt = str | Sequence[Message]
"""A text to be continued, or a chat to be answered."""
Keep = Callable[[int, str], None]
_IMAGE_HEADS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate.

    Attributes
    ----------
    max_new_tokens : tokens of an answer at most.
    temperature : 0 takes the most likely token each time; otherwise logits are divided by it and drawn from.
    top_p : draw from the most likely tokens that have this probability together.
    n : answers for each prompt.
    stop : an answer ends before the first of these texts.
    seed : of the draws. An answer depends on the seed, the prompt and its own number, not on the prompts beside it.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        checks = (
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or a positive number"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("n", self.n >= 1, "1 or more"),
            ("stop", all(self.stop) and not isinstance(self.stop, str), "a tuple of texts, none of them empty"),
        )
        for name, right, expected in checks:
            if not right:
                raise InputError(name, repr(getattr(self, name)), expected)

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn: all answers to a prompt are the same."""
        return self.temperature == 0

    def sample_seed(self, prompt: Prompt, number: int) -> int:
        """The seed of one answer, a whole number below 2**31."""
        content = json.dumps([self.seed, prompt_json(prompt), number], ensure_ascii=False)
        return int.from_bytes(hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1

    def key(self, prompt: Prompt, number: int) -> str:
        """A text that is the same only for what must have the same answer."""
        decides = {k: v for k, v in asdict(self).items() if k != "n"}
        if self.greedy:
            decides |= {"seed": 0, "top_p": 1.0}
        return json.dumps([prompt_json(prompt), decides, 0 if self.greedy else number], sort_keys=True)


@dataclass(frozen=True)
class SampleRequest:
    """One answer that is wanted: the ``number``-th to a prompt."""

    prompt: Prompt
    settings: GenerationSettings
    number: int


@runtime_checkable
class Generator(Protocol):
    """Anything that generates text."""

    def generate(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[list[str]]:
        """For each prompt, ``settings.n`` answers."""
        ...


@runtime_checkable
class SampleGenerator(Generator, Protocol):
    """A generator that gives each answer as soon as it has it, for a cache.

    ``identity`` says in words what decides its answers, without keys.
    """

    @property
    def identity(self) -> str:
        """What decides the answers, in words."""
        ...

    def samples(self, requests: Sequence[SampleRequest], keep: Keep | None = None) -> Iterator[tuple[int, str]]:
        """(position of a request, its answer), in any order. ``keep`` gets each first, from any thread."""
        ...


def requests_of(prompts: Sequence[Prompt], settings: GenerationSettings) -> list[SampleRequest]:
    """Every answer wanted; one for each prompt where nothing is drawn."""
    prompts = [check_prompt(p, i) for i, p in enumerate(prompts)]
    return [SampleRequest(p, settings, k) for p in prompts for k in range(1 if settings.greedy else settings.n)]


def gather(answers: Mapping[int, str], prompts: Sequence[Prompt], settings: GenerationSettings) -> list[list[str]]:
    """The answers by prompt, from those by position in ``requests_of``."""
    each = 1 if settings.greedy else settings.n
    found = [[answers[i * each + k] for k in range(each)] for i in range(len(prompts))]
    return [texts * settings.n for texts in found] if settings.greedy else found


def generate_samples(generator: Generator, requests: Sequence[SampleRequest]) -> list[str]:
    """One answer for each request, in their order.

    A generator that gives single answers (``SampleGenerator``) gets all requests together. Any other is asked for one
    answer at a time, with the seed of that answer.
    """
    requests = [replace(r, prompt=check_prompt(r.prompt, i)) for i, r in enumerate(requests)]
    if isinstance(generator, SampleGenerator):
        answers = dict(generator.samples(requests))
        return [answers[i] for i in range(len(requests))]
    return [generate_one(generator, request) for request in requests]


def generate_one(generator: Generator, request: SampleRequest) -> str:
    """The answer to one request from a generator that knows no requests."""
    seed = request.settings.sample_seed(request.prompt, request.number)
    return generator.generate([request.prompt], replace(request.settings, n=1, seed=seed))[0][0]


def check_prompt(prompt: Any, number: int) -> Prompt:
    """The prompt. Raises InputError for what is neither a text nor a chat of messages."""
    if isinstance(prompt, str):
        return prompt
    right = isinstance(prompt, Sequence) and len(prompt) > 0
    if not right or not all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in prompt
    ):
        raise InputError(f"prompts, number {number}", repr(prompt)[:80], "a text, or messages with role and content")
    return prompt


def prompt_json(prompt: Prompt) -> Any:
    """The prompt as JSON has it; images of a message are parts of its content, as in OpenAI's API."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": m["role"], "content": _content_json(m)} for m in prompt]


def _content_json(message: Message) -> Any:
    images = message.get("images")
    if not images:
        return message["content"]
    assert isinstance(images, Sequence)
    pictures = [{"type": "image_url", "image_url": {"url": address}} for address in images]
    return [*pictures, {"type": "text", "text": message["content"]}]


def image_message(text: str, images: Sequence[bytes]) -> ImageMessage:
    """A user's turn with images in front of the text.

    Parameters
    ----------
    images : contents of PNG, JPEG, GIF or WebP files; they are sent within the request, as ``data:`` addresses.

    Raises
    ------
    InputError : an image of another format.
    """
    addresses = []
    for number, data in enumerate(images):
        kind = next((kind for head, kind in _IMAGE_HEADS.items() if bytes(data).startswith(head)), None)
        if kind is None or (kind == "webp" and bytes(data[8:12]) != b"WEBP"):
            raise InputError(f"images, number {number}", "bytes of no known format", "a PNG, JPEG, GIF or WebP file")
        addresses.append(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
    return {"role": "user", "content": text, "images": addresses}


def has_images(prompt: Prompt) -> bool:
    """Whether a turn of the prompt has images."""
    return not isinstance(prompt, str) and any(message.get("images") for message in prompt)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first of ``stop``."""
    places = [place for place in (text.find(s) for s in stop) if place >= 0]
    return text[: min(places)] if places else text


@dataclass(frozen=True)
class CallableGenerator:
    """A function as a generator.

    Attributes
    ----------
    function : from a prompt (and, where it takes two arguments, the settings with ``seed`` replaced by that of the
        answer) to a text.
    name : what tells it from other functions in a cache.
    """

    function: Callable[..., str]
    name: str = ""
    _takes_settings: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        import inspect

        try:
            kinds = [p.kind for p in inspect.signature(self.function).parameters.values()]
        except (TypeError, ValueError):
            kinds = []
        positional = [
            k for k in kinds if k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        object.__setattr__(self, "_takes_settings", len(positional) > 1)

    @property
    def identity(self) -> str:
        """The name given, else that of the function."""
        return self.name or f"function {getattr(self.function, '__qualname__', type(self.function).__name__)}"

    def samples(self, requests: Sequence[SampleRequest], keep: Keep | None = None) -> Iterator[tuple[int, str]]:
        """One call for each answer."""
        from dataclasses import replace

        for position, request in enumerate(requests):
            seed = request.settings.sample_seed(request.prompt, request.number)
            extra = (replace(request.settings, seed=seed, n=1),) if self._takes_settings else ()
            text = self.function(request.prompt, *extra)
            if not isinstance(text, str):
                raise InputError(self.identity, type(text).__name__, "a text")
            text = cut_at_stop(text, request.settings.stop)
            if keep is not None:
                keep(position, text)
            yield position, text

    def generate(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[list[str]]:
        """For each prompt, ``settings.n`` answers."""
        return gather(dict(self.samples(requests_of(prompts, settings))), prompts, settings)


def load_generator(
    source: str | Path | Generator | Callable[..., str] | None = None, model: str | None = None, **options: Any
) -> Generator:
    """A generator from what the user has.

    Parameters
    ----------
    source : a Hugging Face folder of a causal language model, the base address of an OpenAI-compatible server
        (``http...``), a ``Generator`` (returned as it is), a function from a prompt to a text, or None for the bundled
        model.
    model : the model's name at the server.
    options : of ``TransformersGenerator`` or ``EndpointGenerator``.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        from paperworks.language.generation.endpoint import EndpointGenerator

        return EndpointGenerator(source, model or "", **options)
    if model is not None:
        raise InputError("model", repr(model), "an address as the source: a folder or function has no model's name")
    if source is None or isinstance(source, (str, Path)):
        from paperworks.language.generation.local import TransformersGenerator

        return TransformersGenerator.load(source, **options)
    if options:
        raise InputError(next(iter(options)), "an option of folders and servers", f"none for {type(source).__name__}")
    if isinstance(source, Generator):
        return source
    if callable(source):
        return CallableGenerator(source)
    raise InputError("generator", repr(source), "a folder, an address, a function, or an object with generate")
