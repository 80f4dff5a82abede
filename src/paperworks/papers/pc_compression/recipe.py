"""Train a circuit on the user's arrays, images or table, compress them, and show what it saves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.pc_compression import baselines, figures, files, inputs, pictures
from paperworks.papers.pc_compression.balance import Balance, balance
from paperworks.papers.pc_compression.codec import PCCodec, read_header
from paperworks.papers.pc_compression.codes import BUNDLED
from paperworks.papers.pc_compression.config import Config
from paperworks.papers.pc_compression.em import Phase
from paperworks.papers.pc_compression.hclt import HCLT

PUBLISHED = {
    "mnist": "the paper's HCLT: 1.20 with 32 latent states (theoretical)",
    "fashion-mnist": "the paper's HCLT: 3.34 (theoretical)",
}


def run(config: Config, run: runs.Run) -> runs.Report:
    """Compress your arrays, images or table without loss, with a circuit trained on them."""
    return {"train": _train, "compress": _compress, "decompress": _decompress}[config.action](config, run)


def schedule(epochs: int) -> tuple[Phase, ...]:
    """The official schedule's proportions for fewer epochs: mini-batches with rising inertia, then full batches."""
    full = epochs // 11
    second = (epochs - full) // 2
    return tuple(
        p
        for p in (Phase(epochs - full - second, 0.2, 0.9), Phase(second, 0.9, 0.95), Phase(full, full=True))
        if p.epochs
    )


def _train(config: Config, run: runs.Run) -> runs.Report:
    run.step(f"reading {config.input}")
    content, given_test = inputs.read(config.input)
    layout = inputs.layout_of(content, config.patch)
    codes, _ = layout.encode(content)
    train, test = _split(codes, given_test, layout, config, run.rng("split"))
    fit, held = _validation(train, run.rng("validation"))
    run.step(f"learning from {len(fit)} rows of {codes.shape[1]} values ({layout.categories} different ones)")
    model = HCLT(
        config.latents,
        layout.categories,
        shape=config.shape,
        pseudocount=config.pseudocount,
        schedule=schedule(config.epochs),
        batch_size=config.batch_size or int(np.clip(len(fit) // 12, 1, 512)),
        patience=config.patience,
        n_jobs=config.jobs,
        random_state=config.seed,
    )
    began = time.perf_counter()
    model.fit(fit, validation=held, progress=run.progress, checkpoint=run.state / "model.npz")
    seconds = time.perf_counter() - began
    run.step("saving the model")
    target = run.files / "model"
    if not target.exists():
        model.save(target, layout.to_dict())
    codec = _codec(config, model)

    run.step("compressing the input, and checking that it comes back")
    whole = content if given_test is None else given_test
    name = _name(config.input) + files.SUFFIX
    done = _verified(whole, layout, codec, run.files / name, run)
    run.step("comparing with other coders on the held-out rows")
    compared = _compare(layout, model, codec, fit, test, run)
    held_bits = codec.bits(test[:2000])
    weights = sum(f.stat().st_size for f in target.iterdir())
    weighed = balance(config.input, whole, len(done["data"]), weights, layout.raw(whole))
    lead = pictures.notes(whole) if isinstance(whole, list) else []
    return _report(config, layout, model, done, compared, held_bits, test, name, seconds, run, weighed, lead)


def _compress(config: Config, run: runs.Run) -> runs.Report:
    assert config.model is not None
    model, layout = files.load(config.model.expanduser())
    run.step(f"reading {config.input}")
    content, test = inputs.read(config.input)
    content = content if test is None else test
    codec = _codec(config, model)
    name = _name(config.input) + files.SUFFIX
    run.step("compressing, and checking that it comes back")
    done = _verified(content, layout, codec, run.files / name, run)
    codes, _ = layout.encode(content)
    ideal = codec.ideal_bits(codes)
    run.step("comparing with other coders")
    folder = config.model.expanduser()
    weights = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
    weighed = balance(config.input, content, len(done["data"]), weights, layout.raw(content))
    sizes = {"circuit, file": len(done["data"]), "circuit, ideal": round(ideal / 8), **weighed.others}
    ranked = sorted(sizes.items(), key=lambda item: item[1])
    rows: list[list[Any]] = [[n, size, size * 8 / codes.size] for n, size in ranked]
    return runs.Report(
        f"{weighed.verdict()}. Every value came back.",
        {
            "original, bytes": float(weighed.original),
            "packed, bytes": float(weighed.packed),
            "model, bytes": float(weighed.model),
            "bits per value": len(done["data"]) * 8 / codes.size,
            **_speeds(done, codes),
        },
        [_balance_table(weighed), runs.Table("Size", ["coder", "bytes", "bits per value"], rows, _note(layout))],
        [figures.sizes({str(name): float(size) for name, size in sizes.items()})],
        [runs.ReportFile(name, "the compressed input; read it with --action decompress and the same model")],
        lead=pictures.notes(content) if isinstance(content, list) else [],
    )


def _decompress(config: Config, run: runs.Run) -> runs.Report:
    assert config.model is not None
    path = Path(config.input).expanduser()
    if config.input in BUNDLED:
        raise InputError("input", config.input, f"a compressed file ({files.SUFFIX})")
    run.step(f"reading {path.name}")
    began = time.perf_counter()
    content = files.read_compressed(path, config.model.expanduser(), config.jobs)
    seconds = time.perf_counter() - began
    header = read_header(path.read_bytes())
    written = inputs.write(content, run.files, path.name.removesuffix(files.SUFFIX))
    return runs.Report(
        f"{header.rows:,} rows of {header.variables} values came back from {path.stat().st_size:,} bytes",
        {"bytes": path.stat().st_size, "decompression, seconds": seconds},
        [
            runs.Table(
                "The compressed file",
                ["", "figure"],
                [
                    ["rows", header.rows],
                    ["values per row", header.variables],
                    ["model", header.model[:16]],
                    ["coding mode", header.mode],
                    ["precision, bits", header.precision],
                    ["bits per value", path.stat().st_size * 8 / (header.rows * header.variables)],
                ],
                "Checksums of the file and of the values were right.",
            )
        ],
        files=[runs.ReportFile(written, "the content, as it was compressed")],
    )


def _codec(config: Config, model: HCLT) -> PCCodec:
    return PCCodec(model, config.precision, rows_per_stream=config.rows_per_stream, n_jobs=config.jobs)


def _name(source: str) -> str:
    return Path(source).expanduser().resolve().stem or "input"


def _split(
    codes: np.ndarray,
    given_test: inputs.Content | None,
    layout: inputs.Layout,
    config: Config,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    if given_test is not None:
        return codes, layout.encode(given_test)[0]
    if len(codes) < 10:
        raise InputError("input", f"{len(codes)} rows", "at least 10: more images, or smaller patches (--patch)")
    order = rng.permutation(len(codes))
    cut = max(1, round(config.test_size * len(codes)))
    return codes[np.sort(order[cut:])], codes[np.sort(order[:cut])]


def _validation(train: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(len(train))
    cut = min(5000, max(1, len(train) // 10))
    return train[order[cut:]], train[np.sort(order[:cut])]


def _verified(
    content: inputs.Content, layout: inputs.Layout, codec: PCCodec, path: Path, run: runs.Run
) -> dict[str, Any]:
    """Compress, write, read, decompress, compare; the second time of each counts, since the first compiles."""
    warm = layout.encode(content)[0][:2]
    codec.decompress(codec.compress(warm))
    start = time.perf_counter()
    done = files.compress_content(content, layout, codec)
    middle = time.perf_counter()
    path.write_bytes(done.data)
    back = files.decompress_content(path.read_bytes(), layout, codec)
    end = time.perf_counter()
    if not inputs.same(content, back):
        raise RuntimeError("the decompressed input differs from the input")
    return {
        "data": done.data,
        "rows": done.rows,
        "code bits": done.code_bits,
        "compression": middle - start,
        "decompression": end - middle,
    }


def _others(layout: inputs.Layout, codes: np.ndarray, plain: bytes) -> dict[str, int]:
    found = baselines.general_coders(plain)
    if layout.image_shape is not None and layout.categories <= 256:
        found |= baselines.image_coders(codes.astype(np.uint8).reshape(-1, *layout.image_shape))
    return found


def _compare(
    layout: inputs.Layout, model: HCLT, codec: PCCodec, fit: np.ndarray, test: np.ndarray, run: runs.Run
) -> dict[str, float]:
    """Bytes of the held-out rows by every coder; models without code count as ideal."""
    size = test.size / 8
    plain = layout.text(test) or test.astype(np.uint8 if layout.categories <= 256 else np.uint16).tobytes()
    found = {
        "circuit, file": float(len(codec.compress(test))),
        "circuit, ideal": codec.ideal_bits(test) / 8,
        "Chow-Liu tree, ideal": baselines.chow_liu_bpd(fit, test, model.tree_, layout.categories) * size,
        "independent, ideal": baselines.independent_bpd(fit, test, layout.categories) * size,
    }
    return found | {name: float(value) for name, value in _others(layout, test, plain).items()}


def _speeds(done: dict[str, Any], codes: np.ndarray) -> dict[str, float]:
    return {"compression, seconds": done["compression"], "decompression, seconds": done["decompression"]}


def _note(layout: inputs.Layout) -> str:
    told = "General coders at their strongest settings"
    return (
        f"{told}; image formats once as a file per image or patch, once as one sheet."
        if layout.image_shape
        else f"{told}."
    )


def _report(
    config: Config,
    layout: inputs.Layout,
    model: HCLT,
    done: dict[str, Any],
    compared: dict[str, float],
    held_bits: np.ndarray,
    test: np.ndarray,
    name: str,
    seconds: float,
    run: runs.Run,
    weighed: Balance,
    lead: list[str],
) -> runs.Report:
    values = test.size
    ours = compared["circuit, file"]
    others = {n: b for n, b in compared.items() if "ideal" not in n and n != "circuit, file"}
    best = min(others, key=lambda n: others[n])
    rate, ideal = ours * 8 / values, compared["circuit, ideal"] * 8 / values
    published = f" ({PUBLISHED[config.input]})" if config.input in PUBLISHED else ""
    held = f"{rate:.2f} bits per value, {ours / others[best]:.0%} of {best}{published}"
    headline = f"{weighed.verdict()}. Held-out rows: {held}."
    rows: list[list[Any]] = [
        [n, round(b), b * 8 / values] for n, b in sorted(compared.items(), key=lambda item: item[1])
    ]
    total = int(done["rows"]) * model.n_features_in_
    about: list[list[Any]] = [
        ["rows", int(done["rows"])],
        ["values", total],
        ["bits per value", len(done["data"]) * 8 / total],
        ["codewords alone, bits per value", done["code bits"] / total],
        ["compression, seconds", done["compression"]],
        ["decompression, seconds", done["decompression"]],
        ["weights of the model", model.parameters_.size],
        ["epochs", model.n_iter_],
        ["training, seconds", seconds],
    ]
    drawn = [
        figures.sizes({r[0]: r[1] for r in rows}),
        figures.learning(model.history_, model.validation_, rate),
    ]
    samples = model.sample(40, random_state=run.rng("samples"))
    if layout.image_shape is not None:
        drawn = [
            figures.samples(test, samples, layout.image_shape, layout.categories),
            figures.bit_maps(held_bits, test, layout.image_shape, layout.categories),
            *drawn,
        ]
    else:
        drawn = [figures.bits_by_variable(held_bits.mean(0), layout.variable_names(model.n_features_in_)), *drawn]
    part = "the published test set" if config.input in PUBLISHED else "the whole input"
    return runs.Report(
        headline,
        {
            "bits per value, held out": rate,
            "ideal bits per value, held out": ideal,
            f"share of {best}": ours / others[best],
            "original, bytes": float(weighed.original),
            "packed, bytes": float(weighed.packed),
            "model, bytes": float(weighed.model),
            "training, seconds": seconds,
            "compression, seconds": done["compression"],
            "decompression, seconds": done["decompression"],
        },
        [
            _balance_table(weighed),
            runs.Table("Held-out rows, by coder", ["coder", "bytes", "bits per value"], rows, _note(layout)),
            runs.Table(f"Compressing {part}", ["", "figure"], about),
        ],
        drawn,
        [
            runs.ReportFile("model", "the trained model (safetensors and JSON), for --action compress and decompress"),
            runs.ReportFile(name, f"{part}, compressed"),
        ],
        notes=["Both sides need the model; its size is not in the rates, as it is not in the paper's."],
        lead=lead,
        labels={
            "original, bytes": "before, on disk, bytes",
            "packed, bytes": "packed, bytes",
            "model, bytes": "the model beside it, bytes",
            "bits per value, held out": "bits per value, held-out rows",
            "training, seconds": "training, seconds",
        },
    )


def _balance_table(weighed: Balance) -> runs.Table:
    return runs.Table(
        "The whole content, in bytes",
        ["", "bytes", "share of the original"],
        weighed.rows(),
        "The original is what the files take on disk (of a bundled set, its values). Other coders get the same.",
    )
