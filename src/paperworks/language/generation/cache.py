"""Answers on disk: what was answered once is not asked again, even after a kill."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from paperworks.errors import InputError
from paperworks.language.generation.protocol import (
    GenerationSettings,
    Generator,
    Keep,
    Prompt,
    SampleGenerator,
    SampleRequest,
    gather,
    generate_one,
    requests_of,
)
from paperworks.runs import Progress, no_progress


class CachedGenerator:
    """A generator whose answers are kept in an SQLite file, each written through to the disk before it is used.

    The key of an answer is the generator's ``identity``, the prompt, the settings and the answer's number. Several
    processes may share a file.

    Parameters
    ----------
    generator : one of this package, or any ``Generator`` (then ``identity`` must be given).
    path : the file; made with its folder where it is missing.
    identity : what decides the generator's answers, in words; by default its own.
    progress : called for the answers that are not in the file yet, as ``run.progress``.
    """

    def __init__(
        self, generator: Generator, path: str | Path, *, identity: str | None = None, progress: Progress = no_progress
    ) -> None:
        known = identity or getattr(generator, "identity", None)
        if not known:
            raise InputError("identity", "nothing", "what decides the answers of this generator, in words")
        self.generator, self.path, self.progress, self._identity = generator, Path(path), progress, str(known)
        self.asked = 0
        self._lock = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, text TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise InputError("path", f"{self.path} ({error})", "a file that this cache wrote, or a new name") from error

    @property
    def identity(self) -> str:
        """That of the generator."""
        return self._identity

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> CachedGenerator:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def generate(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[list[str]]:
        """For each prompt, ``settings.n`` answers: those in the file, and the generator's for the rest."""
        requests = requests_of(prompts, settings)
        keys = [self._key(settings.key(r.prompt, r.number)) for r in requests]
        answers = {i: text for i, key in enumerate(keys) if (text := self._read(key)) is not None}
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [i for i, key in enumerate(keys) if i not in answers and first[key] == i]
        if missing:
            wanted = [requests[i] for i in missing]

            def keep(position: int, text: str) -> None:
                self._write(keys[missing[position]], text)

            if isinstance(self.generator, SampleGenerator):
                found = self.generator.samples(wanted, keep)
                for position, text in self.progress(found, "answers", len(wanted)):
                    answers[missing[position]] = text
            else:
                self._ask_each(prompts, settings, missing, keys, answers)
        return gather({i: answers.get(i, answers.get(first[key], "")) for i, key in enumerate(keys)}, prompts, settings)

    def samples(self, requests: Sequence[SampleRequest], keep: Keep | None = None) -> Iterator[tuple[int, str]]:
        """(position of a request, its answer): first those in the file, then the generator's as they come."""
        keys = [self._key(r.settings.key(r.prompt, r.number)) for r in requests]
        places: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            places.setdefault(key, []).append(i)
        missing = []
        for key, same in places.items():
            known = self._read(key)
            if known is None:
                missing.append(same[0])
            else:
                yield from _kept(same, known, keep)
        if not missing:
            return
        wanted = [requests[i] for i in missing]

        def write(position: int, text: str) -> None:
            self._write(keys[missing[position]], text)

        if isinstance(self.generator, SampleGenerator):
            found = self.generator.samples(wanted, write)
        else:
            found = self._one_by_one(wanted, write)
        for position, text in self.progress(found, "answers", len(wanted)):
            yield from _kept(places[keys[missing[position]]], text, keep)

    def _one_by_one(self, wanted: Sequence[SampleRequest], write: Keep) -> Iterator[tuple[int, str]]:
        for position, request in enumerate(wanted):
            text = generate_one(self.generator, request)
            write(position, text)
            yield position, text

    def _ask_each(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        missing: list[int],
        keys: list[bytes],
        answers: dict[int, str],
    ) -> None:
        """Prompt by prompt, for a generator that gives all answers to a prompt at once."""
        each = 1 if settings.greedy else settings.n
        for number in self.progress(sorted({i // each for i in missing}), "prompts"):
            for k, text in enumerate(self.generator.generate([prompts[number]], settings)[0][:each]):
                answers[number * each + k] = text
                self._write(keys[number * each + k], text)

    def _key(self, request: str) -> bytes:
        return hashlib.sha256(f"{self._identity}\0{request}".encode("utf-8", "surrogatepass")).digest()

    def _read(self, key: bytes) -> str | None:
        with self._lock:
            row = self._database.execute("SELECT text FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _write(self, key: bytes, text: str) -> None:
        with self._lock:
            self.asked += 1
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))


def _kept(places: Sequence[int], text: str, keep: Keep | None) -> Iterator[tuple[int, str]]:
    """One answer for all requests that have it."""
    for place in places:
        if keep is not None:
            keep(place, text)
        yield place, text
