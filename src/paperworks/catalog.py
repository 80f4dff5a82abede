"""The catalogue: every paper that has a folder, ours and those of installed packages.

A paper is a folder with a ``paper.toml``. Ours are ``paperworks/papers/<slug with _ for ->/``; another package adds its
own by an entry point of the group ``paperworks.papers`` whose value is the package that holds the ``paper.toml``.

Whether a paper works is computed here from what the folder holds, never written down.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import os
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paperworks.errors import InputError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OURS = Path(__file__).parent / "papers"
ENTRY_POINTS = "paperworks.papers"
REQUIRED = ("slug", "title", "arxiv", "date", "tags", "purpose", "summary", "repository", "claims")

Verdict = Literal["holds", "partly tested", "does not hold", "not tested here", "not measured"]


@dataclass(frozen=True)
class Claim:
    """One thing that the paper says, in our words, with the paper's figure.

    ``reason`` says what of it a machine of this size cannot test, why, and what was checked in its place; empty where
    all of it is tested.
    """

    id: str
    statement: str
    setting: str = ""
    value: str = ""
    baseline: str = ""
    source: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper of the catalogue.

    ``module`` is the import path of its folder, ``folder`` the folder itself. ``extra`` is the extra of this package
    that its method needs (see ``paperworks.extras``), empty for the base. ``figure_alt`` says in words what its picture
    shows, and ``figure_has_images`` that this is photographs, scans or bits, whose colours are not to be turned in the
    dark. ``other`` has the keys that are unknown here.
    """

    slug: str
    title: str
    arxiv: str
    date: str
    tags: tuple[str, ...]
    purpose: str
    summary: str
    repository: str
    claims: tuple[Claim, ...]
    folder: Path
    module: str
    authors: int | None = None
    author_names: tuple[str, ...] = ()
    organisation: str | None = None
    extra: str = ""
    figure_alt: str = ""
    figure_has_images: bool = False
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def has_recipe(self) -> bool:
        """Whether ``paperworks run`` can run it."""
        return (self.folder / "recipe.py").is_file()

    @property
    def figure(self) -> Path | None:
        """A picture from a run of the paper: ``figure.webp`` or ``figure.png`` in its folder; None for none."""
        places = (self.folder / f"figure.{suffix}" for suffix in ("webp", "png"))
        return next((place for place in places if place.is_file()), None)

    @property
    def has_study(self) -> bool:
        """Whether ``paperworks reproduce`` can measure its claims."""
        return (self.folder / "study.py").is_file()

    @cached_property
    def results(self) -> dict[str, Any]:
        """What the last ``reproduce`` measured, as the package ships it; empty if it was never measured."""
        path = self.folder / "results.json"
        if not path.is_file():
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                str(path), f"text that is not JSON ({error})", "what 'paperworks reproduce' writes"
            ) from None

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """The measured findings, as ``Finding.to_dict`` with the verdict computed again."""
        from paperworks.runs.findings import Finding

        return [Finding.from_dict(f).to_dict() for f in self.results.get("findings", [])]

    def require_extra(self) -> None:
        """Raise InputError, with the command that installs it, if the paper's extra is missing."""
        from paperworks.extras import require_extra

        require_extra(self.extra, self.slug)

    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each claim.

        Without findings: not tested here (it has a reason) or not measured. With findings: does not hold (one does
        not), partly tested (they hold, and there are ``untested_parts``), holds (they hold, and nothing is open).
        """
        verdicts: dict[str, Verdict] = {}
        for claim in self.claims:
            own = [f["holds"] for f in self.findings if f["claim"] == claim.id]
            if not own:
                verdicts[claim.id] = "not tested here" if claim.reason else "not measured"
            elif not all(own):
                verdicts[claim.id] = "does not hold"
            else:
                verdicts[claim.id] = "partly tested" if self.untested_parts(claim) else "holds"
        return verdicts

    def untested_parts(self, claim: Claim) -> list[str]:
        """What of a claim was not tested: its reason, and findings whose figures do not decide their statement."""
        found = [claim.reason] if claim.reason else []
        open_ones = [f for f in self.findings if f["claim"] == claim.id and f["untested"]]
        return found + [f"{f['statement'].rstrip('.')}: {f['untested']}" for f in open_ones]

    def obstacles(self) -> list[str]:
        """Why the paper does not work, one line each; empty when it works."""
        if not self.has_recipe:
            return ["it has no recipe: not here yet"]
        missing = [claim for claim, verdict in self.verdicts().items() if verdict == "not measured"]
        found = []
        if not self.claims:
            found.append("it names no claims")
        if missing:
            found.append(f"claims with neither a finding nor a reason: {', '.join(missing)}")
        found += [
            f"an exact finding does not hold: {f['statement']}"
            for f in self.findings
            if f["kind"] == "exact" and not f["holds"]
        ]
        return found

    @property
    def works(self) -> bool:
        """It has a recipe, every claim has a finding or a reason, and every exact finding holds."""
        return not self.obstacles()

    @property
    def claims_held(self) -> int:
        """How many claims hold in the shipped results."""
        return sum(v == "holds" for v in self.verdicts().values())

    def to_dict(self) -> dict[str, Any]:
        """One row of ``paperworks list --json``."""
        verdicts = list(self.verdicts().values())
        return {
            "slug": self.slug,
            "title": self.title,
            "arxiv": self.arxiv,
            "date": self.date,
            "authors": self.authors,
            "organisation": self.organisation,
            "tags": list(self.tags),
            "purpose": self.purpose,
            "here": self.has_recipe,
            "works": self.works,
            "claims_held": verdicts.count("holds"),
            "claims_partly_tested": verdicts.count("partly tested"),
            "claims_not_held": verdicts.count("does not hold"),
            "claims_not_tested": verdicts.count("not tested here"),
            "claims_total": len(self.claims),
        }


def read_paper(folder: Path, module: str) -> Paper:
    """Read and check a folder's ``paper.toml``. Raises InputError naming the file and the field."""
    path = folder / "paper.toml"
    try:
        state = path.stat()
        data = dict(_parsed(path, state.st_mtime_ns, state.st_size))
    except FileNotFoundError:
        raise InputError(str(folder), "no paper.toml", "a paper's folder") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(path), str(error), "valid TOML") from None
    for name in REQUIRED:
        if name not in data:
            raise InputError(f"{path}, {name}", "nothing", "a value")
    claims = data.pop("claims")
    known = set(Claim.__dataclass_fields__)
    for number, claim in enumerate(claims):
        for name in ("id", "statement"):
            if not claim.get(name):
                raise InputError(f"{path}, claims[{number}].{name}", "nothing", "a value")
        if set(claim) - known:
            raise InputError(
                f"{path}, claims[{number}]",
                ", ".join(sorted(set(claim) - known)),
                f"fields among {', '.join(sorted(known))}",
            )
    ids = [claim["id"] for claim in claims]
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}, claims", f"an id twice in {', '.join(ids)}", "one claim per id")
    fields = {name: data.pop(name) for name in list(data) if name in Paper.__dataclass_fields__ and name != "other"}
    fields["tags"] = tuple(fields["tags"])
    fields["author_names"] = tuple(fields.get("author_names", ()))
    fields["summary"] = " ".join(fields["summary"].split())
    fields["date"] = str(fields["date"])
    other = copy.deepcopy(data)  # all else is text, numbers and tuples: what is changed here is not changed elsewhere
    return Paper(**fields, claims=tuple(Claim(**c) for c in claims), folder=folder, module=module, other=other)


@lru_cache(maxsize=256)
def _parsed(path: Path, changed_ns: int, size: int) -> dict[str, Any]:
    """What a TOML file holds; read again where the file has changed. A process asks for all papers many times."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def checkout() -> Path | None:
    """The root of the source checkout that this package runs from, or None when it is installed."""
    source = OURS.parent.parent
    return source.parent if (source.parent / "pyproject.toml").is_file() and source.name == "src" else None


def _folders() -> list[tuple[Path, str]]:
    ours = [(path.parent, f"paperworks.papers.{path.parent.name}") for path in sorted(OURS.glob("*/paper.toml"))]
    return ours + [(folder, module) for folder, module in _other_folders()]


def _other_folders() -> list[tuple[Path, str]]:
    found = []
    for point in _entry_points(tuple((place, _changed_ns(place)) for place in sys.path)):
        spec = importlib.util.find_spec(point.value)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"entry point {point.name}", point.value, "an importable package with a paper.toml")
        found.append((Path(next(iter(spec.submodule_search_locations))), point.value))
    return found


@lru_cache(maxsize=16)
def _entry_points(places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """The papers that installed packages name. To find them reads a file of each: again where a place has changed."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINTS))


def _changed_ns(place: str) -> int:
    """When a folder of ``sys.path`` last got or lost a file; 0 where there is none."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


def papers(*, tag: str | None = None, works: bool | None = None) -> list[Paper]:
    """All papers, by slug; only those with the tag, or that work (or do not), if asked.

    Raises InputError for a tag that no paper has, and for two folders with one slug.
    """
    found = [read_paper(folder, module) for folder, module in _folders()]
    by_slug: dict[str, Paper] = {}
    for paper in found:
        if paper.slug in by_slug:
            raise InputError(
                f"slug {paper.slug}", f"{by_slug[paper.slug].folder} and {paper.folder}", "one folder per slug"
            )
        by_slug[paper.slug] = paper
    chosen = sorted(by_slug.values(), key=lambda p: p.slug)
    if tag is not None:
        tags = {t for p in chosen for t in p.tags}
        if tag not in tags:
            raise InputError("tag", repr(tag), f"one of {', '.join(sorted(tags))}{nearest(tag, tags)}")
        chosen = [p for p in chosen if tag in p.tags]
    if works is not None:
        chosen = [p for p in chosen if p.works == works]
    return chosen


def find(slug: str) -> Paper:
    """The paper of that slug (or arXiv id); an unknown one suggests the nearest."""
    found = papers()
    for paper in found:
        if slug in (paper.slug, paper.arxiv, paper.slug.replace("-", "_")):
            return paper
    raise InputError(
        "slug", repr(slug), f"the slug of a paper{nearest(slug, [p.slug for p in found])}; see 'paperworks list'"
    )


def find_with_recipe(slug: str) -> Paper:
    """``find``, for a paper that is to be run. Raises InputError, naming those that can be, if it has no recipe."""
    paper = find(slug)
    if not paper.has_recipe:
        here = ", ".join(p.slug for p in papers() if p.has_recipe)
        raise InputError("slug", f"{paper.slug}, which is not here yet", f"one of {here}")
    return paper


def paper_modules() -> dict[str, str]:
    """Attribute name -> module, for the papers that can be imported (they have an ``__init__.py``)."""
    return {folder.name: module for folder, module in _folders() if (folder / "__init__.py").is_file()}


def find_module(name: str) -> str | None:
    """The module of the paper whose folder has this name, or None. Cheap for ours: other packages are asked last."""
    if (OURS / name / "__init__.py").is_file():
        return f"paperworks.papers.{name}"
    for folder, module in _other_folders():
        if folder.name == name:
            return module
    return None


def register_architectures() -> None:
    """Make the Auto classes of transformers know the architectures of papers: those with ``register()`` in ``auto.py``.

    ``import paperworks`` sees to it that this is called before they are first asked for a model.
    """
    for folder, module in _folders():
        if (folder / "auto.py").is_file():
            importlib.import_module(f"{module}.auto").register()


def search(query: str, *, limit: int = 10, meaning: bool = False) -> tuple[list[tuple[Paper, float]], str]:
    """The papers that fit a query, best first, with their scores; and the method that ranked them.

    Words are matched by BM25 over title, purpose, tags and summary. ``meaning`` fuses in the ranking of the sentence
    encoder (extra ``encoder``) by reciprocal rank: it finds papers that share no word with the query.
    Raises InputError for an empty query, a limit below 1, and ``meaning`` without the extra.
    """
    from paperworks.embedding import HybridIndex, sentence_encoder

    if not query.strip():
        raise InputError(
            "query", "nothing to look for", 'a few words, as in: paperworks search "make a language model smaller"'
        )
    if limit < 1:
        raise InputError("limit", limit, "1 or more")
    found = papers()
    texts = [". ".join([p.title, p.purpose, ", ".join(p.tags), p.summary]) for p in found]
    index = HybridIndex(texts, sentence_encoder(required=True) if meaning else None)
    method = "BM25 and sentence embeddings" if meaning else "BM25"
    return [(found[i], score) for i, score in index.search(query, limit)], method
