"""Files in, files out: what ``compress`` and ``decompress`` of a trained model do to a user's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paperworks.errors import InputError
from paperworks.papers.pc_compression import inputs
from paperworks.papers.pc_compression.codec import PCCodec, read_header
from paperworks.papers.pc_compression.hclt import HCLT
from paperworks.runs.files import new_file, require_free

SUFFIX = ".pc"


@dataclass(frozen=True)
class Compressed:
    """A compressed content: its bytes, the rows it held, and the length of its codewords alone, in bits."""

    data: bytes
    rows: int
    code_bits: int


def load(folder: Path) -> tuple[HCLT, inputs.Layout]:
    """A model that the recipe trained, and how its input is laid out."""
    model = HCLT.load(folder)
    return model, inputs.layout_from(model.about_)


def compress_content(content: inputs.Content, layout: inputs.Layout, codec: PCCodec) -> Compressed:
    """Code content that is laid out as the model's training input was."""
    codes, rest = layout.encode(content)
    data = codec.compress(codes, inputs.pack(rest))
    return Compressed(data, len(codes), read_header(data).code_bits)


def decompress_content(data: bytes, layout: inputs.Layout, codec: PCCodec) -> inputs.Content:
    """The content, exactly. Raises InputError for damaged bytes and for another model's file."""
    codes = codec.decompress(data)
    return layout.decode(codes, inputs.unpack(read_header(data).attachment))


def compress_file(source: str | Path, model: str | Path, target: str | Path, *, n_jobs: int = 1) -> Compressed:
    """Compress an array file, an image, a folder of images or a table with a trained model, into a new file."""
    place = Path(target)
    require_free(place, "target")
    loaded, layout = load(Path(model))
    content, test = inputs.read(str(source))
    done = compress_content(content if test is None else test, layout, PCCodec(loaded, n_jobs=n_jobs))
    with new_file(place) as aside:
        aside.write_bytes(done.data)
    return done


def decompress_file(source: str | Path, model: str | Path, folder: str | Path, *, n_jobs: int = 1) -> Path:
    """Put the content of a compressed file into ``folder``, in the format it came in; returns the new path."""
    path, place = Path(source), Path(folder)
    content = read_compressed(path, Path(model), n_jobs)
    place.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(SUFFIX)
    for candidate in (place / name, place / f"{name}.npy", place / f"{name}.csv"):
        require_free(candidate, "folder")
    return place / inputs.write(content, place, name)


def read_compressed(path: Path, model: Path, n_jobs: int = 1) -> inputs.Content:
    """The content of a compressed file."""
    if not path.is_file():
        raise InputError("input", f"{path}, which does not exist", f"a compressed file ({SUFFIX})")
    loaded, layout = load(model)
    return decompress_content(path.read_bytes(), layout, PCCodec(loaded, n_jobs=n_jobs))
