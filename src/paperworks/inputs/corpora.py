"""Plain text out of the corpora's own formats.

Every reader takes the folder that ``paperworks data path NAME`` prints, and gives documents: a key that is unique in
the corpus (a chapter, a synset, an entry) and the text.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from paperworks.errors import InputError
from paperworks.inputs.wordnet import read_synsets


class Document(NamedTuple):
    """One document of a corpus: its key, unique in the corpus, and its text."""

    key: str
    text: str


def read_corpus(name: str, folder: Path) -> list[Document]:
    """The documents of the corpus ``name``: king-james, wordnet, jargon or gcide."""
    readers = {"king-james": king_james, "wordnet": wordnet, "jargon": jargon, "gcide": gcide}
    if name not in readers:
        raise InputError("name", name, f"one of {', '.join(readers)}")
    return list(readers[name](folder))


# -- the King James text -----------------------------------------------------------------------------------------


def king_james(folder: Path) -> Iterator[Document]:
    """One document per chapter (key ``Ge1``), one verse per line, without the numbers."""
    chapters: dict[str, list[str]] = {}
    for line in bible_text(_file(folder, "bible.data").read_bytes()).splitlines()[1:]:
        reference, _, verse = line.partition(" ")
        chapters.setdefault(reference.partition(":")[0], []).append(verse.strip())
    for key, verses in chapters.items():
        yield Document(key, "\n".join(verses))


def bible_text(data: bytes) -> str:
    """The text inside the file ``bible.data``: a header, and blocks of 64 KiB packed as by Unix ``compress``.

    Header: 20 bytes of name, padding to byte 84; then big-endian 32-bit words: (unused), number of blocks, and the
    offsets of the blocks and of the end. Blocks lack compress's own three-byte header, which stands before the first.
    """
    if not data.startswith(b"EC02Compressed Data File"):
        raise InputError("bible.data", repr(data[:24]), "a file that starts with 'EC02Compressed Data File'")
    (blocks,) = struct.unpack_from(">I", data, 88)
    offsets = struct.unpack_from(f">{blocks + 1}I", data, 92)
    flags = data[offsets[0] - 1]
    return b"".join(unpack_lzw(data[a:b], flags & 0x1F) for a, b in pairwise(offsets)).decode("ascii")


def unpack_lzw(data: bytes, most_bits: int) -> bytes:
    """Undo Unix ``compress`` (LZW; codes of 9 bits and up, low bits first; 256 clears the table)."""
    table = [bytes([i]) for i in range(256)] + [b""]
    out = bytearray()
    previous = b""
    bits, position, group = 9, 0, 0
    while position + bits <= 8 * len(data):
        at = position >> 3
        code = (int.from_bytes(data[at : at + 4], "little") >> (position & 7)) & ((1 << bits) - 1)
        position += bits
        clear = code == 256
        if clear:
            del table[257:]
            previous = b""
        else:
            entry = table[code] if code < len(table) else previous + previous[:1]
            if previous and len(table) < 1 << most_bits:
                table.append(previous + entry[:1])
            out += entry
            previous = entry
        if clear or (len(table) >= 1 << bits and bits < most_bits):
            # codes come in groups of eight: a change of width skips the rest of the group
            rest = (position - group) % (8 * bits)
            position += 8 * bits - rest if rest else 0
            group = position
            bits = 9 if clear else bits + 1
    return bytes(out)


# -- WordNet -----------------------------------------------------------------------------------------------------

_PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


def wordnet(folder: Path) -> Iterator[Document]:
    """One document per synset (key ``noun-00001740``): ``head word, head word (noun): gloss; "example"``."""
    for part, name in _PARTS.items():
        for synset in read_synsets(folder, part):
            yield Document(f"{part}-{synset.id[1:]}", f"{', '.join(synset.lemmas)} ({name}): {synset.gloss}")


# -- dictionaries in dictd's format --------------------------------------------------------------------------------


def jargon(folder: Path) -> Iterator[Document]:
    """One document per entry of the Jargon File: the head word and its paragraphs, each on one line."""
    for key, lines in _dictd(folder, "jargon"):
        body = "\n".join(lines[1:])
        body = re.sub(r"\{\s*([^}]*?)\s*\}", lambda m: " ".join(m[1].split()), body)  # {cross references}
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", body)]
        text = " ".join(p for p in paragraphs[:1] if p)
        yield Document(key, "\n".join([f"{lines[0].strip()}: {text}".rstrip(": "), *(p for p in paragraphs[1:] if p)]))


def gcide(folder: Path) -> Iterator[Document]:
    """One document per entry of the GNU Collaborative International Dictionary of English, its lines as they are."""
    for key, lines in _dictd(folder, "gcide"):
        yield Document(key, "\n".join(line.rstrip() for line in lines).strip())


_DIGITS = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}


def _dictd(folder: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """Entries of a dictd database in the order of the text: (offset as a key, lines). Index numbers are in base 64."""
    data = gzip.decompress(_file(folder, f"{name}.dict.dz").read_bytes())
    places = set()
    for line in _file(folder, f"{name}.index").read_text(encoding="utf-8").splitlines():
        word, offset, length = line.split("\t")[:3]
        if not word.startswith(("00-database", "00database")):
            places.add((_base64(offset), _base64(length)))
    for start, size in sorted(places):
        lines = data[start : start + size].decode("utf-8", "replace").strip("\n").split("\n")
        yield f"{name}-{start}", lines


def _base64(text: str) -> int:
    value = 0
    for c in text:
        value = value * 64 + _DIGITS[c]
    return value


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise InputError("folder", f"{folder}, without {name}", "the folder that `paperworks data get` made")
    return path
