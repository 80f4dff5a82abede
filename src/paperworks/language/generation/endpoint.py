"""Generation by OpenAI-compatible servers: OpenAI, vLLM, TGI, llama.cpp, Ollama, ..."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

from paperworks.errors import InputError
from paperworks.language.generation.protocol import (
    GenerationSettings,
    Keep,
    Prompt,
    SampleRequest,
    cut_at_stop,
    gather,
    prompt_json,
    requests_of,
)

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 120.0
"""Seconds between two attempts, whatever the server asks for."""


class EndpointGenerator:
    """One model behind one server or several of the same kind.

    Each answer is one request. Requests go to the server with the fewest open ones. A server that fails rests for a
    time that doubles from failure to failure, or that it named (``Retry-After``); the request goes to another one
    meanwhile, and waits only where all of them rest.

    Parameters
    ----------
    urls : base address such as ``http://localhost:8000/v1``, or several.
    model : the model's name at the servers.
    api : "chat" (``/chat/completions``) or "completions" (``/completions``; texts only).
    parallel : requests at the same time.
    attempts : of one request, before it is given up with an InputError.
    timeout : seconds without a byte until an attempt counts as failed.
    key_variable : environment variable with the key; none is sent where it is not set. The key is in no message.
    fields : further fields of each request's body, such as ``{"response_format": {"type": "json_object"}}``.
    sleep : waits so many seconds.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        model: str,
        *,
        api: Literal["chat", "completions"] = "chat",
        parallel: int = 4,
        attempts: int = 5,
        timeout: float = 60.0,
        key_variable: str = "OPENAI_API_KEY",
        fields: Mapping[str, Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        given = [urls] if isinstance(urls, str) else urls
        self.urls = list(dict.fromkeys(u.rstrip("/") for u in given))
        wrong = [u for u in self.urls if not u.startswith(("http://", "https://"))]
        if wrong or not self.urls:
            raise InputError("endpoint", repr(wrong[0]) if wrong else "none", "an address as http://localhost:8000/v1")
        if not model:
            raise InputError("endpoint_model", "nothing", "the model's name at the server")
        if api not in ("chat", "completions"):
            raise InputError("api", repr(api), "chat or completions")
        for name, value in (("parallel", parallel), ("attempts", attempts)):
            if value < 1:
                raise InputError(name, value, "1 or more")
        if not timeout > 0:
            raise InputError("timeout", timeout, "more than 0 seconds")
        try:
            import httpx
        except ImportError:
            raise InputError("endpoint", "no httpx in this Python", "pip install httpx") from None
        self.model, self.api, self.parallel, self.attempts = model, api, parallel, attempts
        self.fields = dict(fields or {})
        self._sleep = sleep
        self._key = os.environ.get(key_variable, "")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(timeout=timeout, headers=headers)
        self._lock = threading.Lock()
        self._servers = {url: _Server() for url in self.urls}

    @property
    def identity(self) -> str:
        """What decides the answers: the servers, the model's name, the API and further fields."""
        further = f"|{json.dumps(self.fields, sort_keys=True)}" if self.fields else ""
        return f"{','.join(sorted(self.urls))}|{self.model}|{self.api}{further}"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> EndpointGenerator:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def generate(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[list[str]]:
        """For each prompt, ``settings.n`` answers.

        Raises InputError for a status that another attempt does not mend, an answer of another form, or a request that
        failed ``attempts`` times.
        """
        return gather(dict(self.samples(requests_of(prompts, settings))), prompts, settings)

    def samples(self, requests: Sequence[SampleRequest], keep: Keep | None = None) -> Iterator[tuple[int, str]]:
        """(position of a request, its answer), as they come. What is under way is waited for when this is closed."""

        def answer(position: int) -> str:
            text = self._ask(requests[position])
            if keep is not None:
                keep(position, text)
            return text

        pool = ThreadPoolExecutor(self.parallel)
        try:
            futures = {pool.submit(answer, i): i for i in range(len(requests))}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _body(self, request: SampleRequest) -> dict[str, Any]:
        settings = request.settings
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
        } | self.fields
        if not settings.greedy:
            body |= {"seed": settings.sample_seed(request.prompt, request.number), "top_p": settings.top_p}
        if settings.stop:
            body["stop"] = list(settings.stop)
        content = prompt_json(request.prompt)
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": content}] if isinstance(content, str) else content
        elif isinstance(content, str):
            body["prompt"] = content
        else:
            raise InputError("prompts", "a chat", "texts for the completions API, or the chat API")
        return body

    def _ask(self, request: SampleRequest) -> str:
        import httpx

        body = self._body(request)
        path = "/chat/completions" if self.api == "chat" else "/completions"
        problem = ""
        for _ in range(self.attempts):
            url, began = self._take()
            try:
                response = self._client.post(url + path, json=body)
            except httpx.HTTPError as error:
                problem = f"{url}{path}, no answer ({type(error).__name__}: {error})"
                self._failed(url, began)
                continue
            finally:
                with self._lock:
                    self._servers[url].open -= 1
            if response.status_code == 200:
                with self._lock:
                    self._servers[url].failures = 0
                return cut_at_stop(self._content(response.text, url + path), request.settings.stop)
            problem = f"{url}{path}, status {response.status_code}: {response.text[:200]}"
            if response.status_code not in RETRIED:
                raise InputError("endpoint", self._hidden(problem), "status 200")
            self._failed(url, began, _retry_after(response.headers.get("retry-after")))
        raise InputError("endpoint", self._hidden(problem), f"an answer within {self.attempts} attempts")

    def _take(self) -> tuple[str, float]:
        """The server for an attempt, and when it began: one that does not rest, or the first that has rested."""
        with self._lock:
            now = time.monotonic()
            url = min(self.urls, key=lambda u: (max(self._servers[u].until - now, 0.0), self._servers[u].open))
            server = self._servers[url]
            until = server.until
            server.open += 1
        if until > now:
            self._sleep(until - now)
            with self._lock:
                if server.until == until:
                    server.until = 0.0
        return url, time.monotonic()

    def _failed(self, url: str, began: float, asked: float = 0.0) -> None:
        """Let a server rest. Attempts that were under way together count as one failure."""
        with self._lock:
            server, now = self._servers[url], time.monotonic()
            if began >= server.failed:
                server.failures, server.failed = server.failures + 1, now
            rest = min(LONGEST_WAIT, max(0.5 * 2.0 ** min(server.failures, 16), asked))
            server.until = max(server.until, now + rest)

    def _content(self, text: str, address: str) -> str:
        try:
            choice = json.loads(text)["choices"][0]
            content = choice["message"]["content"] if self.api == "chat" else choice["text"]
            if content is not None and not isinstance(content, str):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError):
            raise InputError(
                "endpoint",
                self._hidden(f"{address}, an answer of another form: {text[:200]!r}"),
                "choices as in OpenAI's API",
            ) from None
        return content or ""

    def _hidden(self, message: str) -> str:
        """The message without the key, should a server repeat it."""
        return message.replace(self._key, "(the key)") if self._key else message


@dataclass
class _Server:
    """Open requests, failures since the last answer, and when the last one was, and until when it rests (seconds)."""

    open: int = 0
    failures: int = 0
    failed: float = -math.inf
    until: float = 0.0


def _retry_after(value: str | None) -> float:
    """Seconds that a ``Retry-After`` header asks for: a number, or a date."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
