"""Readers of the corpora's formats, on small files in those formats; and splitting without leaks."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.inputs.corpora import Document, read_corpus, unpack_lzw
from paperworks.inputs.splits import normalised, passages, split_of, without_passages


def pack_lzw(data: bytes, most_bits: int = 16) -> bytes:
    """Unix compress without its header and without clearing, written for this test."""
    codes: list[tuple[int, int]] = []  # (code, bits)
    table = {bytes([i]): i for i in range(256)}
    bits, current, entries = 9, b"", 257
    out: list[tuple[int, int]] = []
    for byte in data:
        longer = current + bytes([byte])
        if longer in table:
            current = longer
            continue
        out.append((table[current], bits))
        if entries < 1 << most_bits:
            table[longer] = entries
            entries += 1
            if entries > 1 << bits and bits < most_bits:
                while len(out) % 8:
                    out.append((0, bits))
                codes += out
                out = []
                bits += 1
        current = bytes([byte])
    if current:
        out.append((table[current], bits))
    codes += out
    value, place = 0, 0
    for code, width in codes:
        value |= code << place
        place += width
    return value.to_bytes((place + 7) // 8, "little")


@given(st.binary(max_size=40), st.integers(1, 60))
def test_lzw_of_short_data(data: bytes, times: int) -> None:
    assert unpack_lzw(pack_lzw(data * times), 16) == data * times


@pytest.mark.parametrize("most_bits", [10, 12, 16])
def test_lzw_through_several_widths(most_bits: int) -> None:
    data = b"".join(b"%d verses, %d words. " % (i * i, i) for i in range(4000))
    assert unpack_lzw(pack_lzw(data, most_bits), most_bits) == data


@pytest.mark.skipif(shutil.which("compress") is None, reason="the program compress is not installed")
def test_lzw_of_the_real_program() -> None:
    data = b"".join(b"%d verses, %d words. " % (i * i, i) for i in range(60_000))
    packed = subprocess.run(["compress", "-c"], input=data, capture_output=True, check=True).stdout
    assert unpack_lzw(packed[3:], packed[2] & 0x1F) == data


def bible(text: str) -> bytes:
    blocks = [pack_lzw(text.encode()[i : i + 200]) for i in range(0, len(text), 200)]
    start = 92 + 4 * (len(blocks) + 1) + 3
    offsets = [start]
    for block in blocks:
        offsets.append(offsets[-1] + len(block))
    head = b"EC02Compressed Data File".ljust(84, b"\0") + struct.pack(">II", 1, len(blocks))
    return head + struct.pack(f">{len(offsets)}I", *offsets) + b"\x1f\x9d\x90" + b"".join(blocks)


def test_king_james(tmp_path: Path) -> None:
    text = "A title line.\n" + "".join(f"Ge{c}:{v} Verse {v} of chapter {c}.\n" for c in (1, 2) for v in range(1, 12))
    (tmp_path / "bible.data").write_bytes(bible(text))
    found = read_corpus("king-james", tmp_path)
    assert [d.key for d in found] == ["Ge1", "Ge2"]
    assert found[1].text.splitlines() == [f"Verse {v} of chapter 2." for v in range(1, 12)]
    (tmp_path / "bible.data").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"bible\.data"):
        read_corpus("king-james", tmp_path)


def test_wordnet(tmp_path: Path) -> None:
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 This software\n  2 and database\n")
    with (tmp_path / "data.noun").open("a") as out:
        out.write(
            '00004258 03 n 02 living_thing 0 animate_thing 0 001 @ 00003553 n 0000 | a living entity; "it  moves"  \n'
        )
    with (tmp_path / "data.adj").open("a") as out:
        words = " ".join(f"w{i} 0" for i in range(11))
        out.write(f"00000001 00 a 0c {words} galore(ip) 0 000 | in great numbers  \n")
    found = read_corpus("wordnet", tmp_path)
    assert found[0] == Document("noun-00004258", 'living thing, animate thing (noun): a living entity; "it moves"')
    assert found[1].text.endswith("w10, galore (adjective): in great numbers")


def test_dictionaries(tmp_path: Path) -> None:
    entries = [
        "00-database-info\n  about\n",
        "foo\n /foo/, n.\n\n    The first {metasyntactic\n    variable}.\n\n    See {bar}.\n",
        "bar\n\n    Bar.\n",
    ]
    data, index, digits = b"", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def number(n: int) -> str:
        return (number(n // 64) if n >= 64 else "") + digits[n % 64]

    for word, entry in zip(["00-database-info", "foo", "bar"], entries, strict=True):
        line = f"{word}\t{number(len(data))}\t{number(len(entry.encode()))}\n"
        index += line + (line.replace("foo", "foo again") if word == "foo" else "")
        data += entry.encode()
    (tmp_path / "jargon.dict.dz").write_bytes(gzip.compress(data))
    (tmp_path / "jargon.index").write_text(index)
    found = read_corpus("jargon", tmp_path)
    assert [d.text for d in found] == ["foo: /foo/, n.\nThe first metasyntactic variable.\nSee bar.", "bar: Bar."]
    for name in ("dict.dz", "index"):
        shutil.copy(tmp_path / f"jargon.{name}", tmp_path / f"gcide.{name}")
    assert read_corpus("gcide", tmp_path)[1].text == "bar\n\n    Bar."


def test_missing_files_and_unknown_corpora(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without data\.noun"):
        read_corpus("wordnet", tmp_path)
    with pytest.raises(InputError, match="one of king-james"):
        read_corpus("brown", tmp_path)


def test_splits_keep_to_their_shares() -> None:
    shares = {"train": 0.8, "test": 0.2}
    names = [split_of(f"document {i}", shares) for i in range(5000)]
    assert names.count("test") == pytest.approx(1000, abs=120)
    # a larger share only ever adds: what is held out at 10 % is held out at 20 %
    fewer = {f"k{i}" for i in range(1000) if split_of(f"k{i}", {"train": 0.9, "test": 0.1}) == "test"}
    more = {f"k{i}" for i in range(1000) if split_of(f"k{i}", shares) == "test"}
    assert fewer < more
    assert split_of("Ge1", {"train": 0.97, "validation": 0.015, "test": 0.015}) == "train"
    with pytest.raises(InputError, match="shares"):
        split_of("x", {"train": 0.5})


def test_what_was_seen_is_taken_out() -> None:
    seen = passages('One two three four five.\nshort; "An Example, of five words"')
    assert seen == {"one two three four five", "an example of five words"}
    held_out = [
        "ONE, two - three four five!\nand this line may well stay here",
        'word (noun): a gloss of five good words; "an example of five words"',
        "six words that nobody has seen",
    ]
    assert without_passages(held_out, seen) == ["and this line may well stay here", "six words that nobody has seen"]
    assert normalised("  A\tB, c! ") == "a b c"
