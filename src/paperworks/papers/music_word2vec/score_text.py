"""The text of a score file as music21 reads it: MusicXML out of its archive and by parts, ABC a voice at a time."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path
from xml.etree import ElementTree

from paperworks.errors import InputError

KINDS = "MIDI, MusicXML (.musicxml, .mxl), kern, ABC or MEI"
_LARGEST = 2**28
"""Bytes that a score may have outside its archive."""
_XML = (".mxl", ".musicxml", ".xml")
_VOICE = re.compile(r"\[V:\s*([^\s\]]+)[^\]]*\]|^V:\s*(\S+).*$", re.MULTILINE)


def score_text(path: Path) -> tuple[str, str] | None:
    """A score's text and music21's name of its format; None for a file that music21 reads as it stands.

    Raises
    ------
    InputError : an archive without a score, or one that is damaged or larger than 256 MiB.
    """
    data = path.read_bytes()
    if path.suffix.lower() in _XML and data.startswith(b"PK"):
        return _from_archive(data, path.name), "musicxml"
    if path.suffix.lower() in _XML and b"score-timewise" in data.replace(b"\0", b""):  # in UTF-16 as well
        return _as_text(data, path.name), "musicxml"
    if path.suffix.lower() == ".abc":
        return voice_by_voice(_decoded(data)), "abc"
    if path.suffix.lower() == ".krn":
        return _decoded(data), "humdrum"
    return None


def _decoded(data: bytes) -> str:
    """Text in UTF-8, or where it is none in Windows-1252, as collections of folk songs of the nineties are."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return "\n".join(text.splitlines()) + "\n"


def _from_archive(data: bytes, name: str) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = _root_file(archive, name)
            if archive.getinfo(member).file_size > _LARGEST:
                raise InputError(name, f"{archive.getinfo(member).file_size:,} bytes of {member}", "256 MiB at most")
            content = archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(name, f"an archive that cannot be unpacked ({error})", f"a whole score: {KINDS}") from None
    return _as_text(content, f"{name}, {member}")


def _as_text(content: bytes, name: str) -> str:
    """MusicXML by parts, written anew: music21 takes what it is given as UTF-8 whatever the first line says."""
    try:
        score = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(name, f"XML that cannot be parsed ({error})", "a whole score") from None
    return ElementTree.tostring(by_parts(score) if score.tag == "score-timewise" else score, encoding="unicode")


def by_parts(timewise: ElementTree.Element) -> ElementTree.Element:
    """A MusicXML score of measures that hold parts (``score-timewise``) as parts that hold measures.

    A part that a measure leaves out is empty there, so that all parts go on with the same measure.
    """
    measures = timewise.findall("measure")
    score = ElementTree.Element("score-partwise", timewise.attrib)
    score.extend(child for child in timewise if child.tag != "measure")
    names = dict.fromkeys(part.get("id", "") for measure in measures for part in measure.findall("part"))
    for name in names:
        whole = ElementTree.SubElement(score, "part", {"id": name})
        for measure in measures:
            inside = ElementTree.SubElement(whole, "measure", measure.attrib)
            inside.extend(e for part in measure.findall("part") if part.get("id", "") == name for e in part)
    return score


def _root_file(archive: zipfile.ZipFile, name: str) -> str:
    """The score of an archive: what its container names first, else the first XML file."""
    names = archive.namelist()
    if "META-INF/container.xml" in names:
        try:
            container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        except ElementTree.ParseError:
            container = ElementTree.Element("container")
        named = [e.get("full-path", "") for e in container.iter() if e.tag.rpartition("}")[2] == "rootfile"]
        found = next((path for path in named if path in names), None)
        if found is not None:
            return found
    scores = [n for n in names if n.lower().endswith((".musicxml", ".xml")) and not n.startswith(("META-INF/", "__"))]
    if not scores:
        raise InputError(name, "an archive without MusicXML", f"a score: {KINDS}")
    return scores[0]


def voice_by_voice(text: str) -> str:
    """ABC with the lines of each voice together.

    music21 begins a part anew wherever a voice goes on, and does not see ``[V:1]``; so voices that take turns, as most
    files have them, would all sound from the beginning or one after the other.
    """
    tunes = re.split(r"^(?=X:)", text, flags=re.MULTILINE)
    return "".join(_tune_by_voice(tune) for tune in tunes)


def _tune_by_voice(tune: str) -> str:
    found = re.search(r"^K:.*\n", tune, re.MULTILINE)
    if found is None or not _VOICE.search(tune, found.end()):
        return tune
    header = re.sub(r"^V:.*\n", "", tune[: found.end()], flags=re.MULTILINE)
    body = tune[found.end() :]
    voices: dict[str, list[str]] = {}
    voice, place = "", 0
    for mark in _VOICE.finditer(body):
        voices.setdefault(voice, []).append(body[place : mark.start()])
        voice, place = mark[1] or mark[2], mark.end()
    voices.setdefault(voice, []).append(body[place:])
    parts = {name: "\n".join(lines) + "\n" for name, lines in voices.items()}
    sounding = (f"V:{name or 0}\n{text}" for name, text in parts.items() if text.strip())
    return header + "".join(re.sub(r"\n\s*\n", "\n", part) for part in sounding)
