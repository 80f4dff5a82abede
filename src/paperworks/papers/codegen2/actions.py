"""Actions of the recipe besides training: filling the holes of a file, converting a released checkpoint."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.kinds import require_text
from paperworks.papers.codegen2.checkpoints import Loaded, load_code_model
from paperworks.papers.codegen2.completion import infill_many, split_holes
from paperworks.papers.codegen2.config import Config
from paperworks.papers.codegen2.export import prompt_format, require_gguf, save_gguf, to_phi
from paperworks.papers.codegen2.figures import holes_figure
from paperworks.runs.files import write_text


def given_groups(config: Config) -> int | None:
    """The number of groups that the options name."""
    return None if config.groups == "auto" else int(config.groups)


def fill_file(config: Config, run: runs.Run) -> runs.Report:
    """Write into the holes of a text."""
    path = Path(config.file or "").expanduser()
    if not path.is_file():
        raise InputError("file", f"{path}, no file", f"a text with {config.marker} where something is to be written")
    data = path.read_bytes()
    require_text(path, data[:65536], f"a text with {config.marker} in it")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("file", f"{path}, which is not UTF-8", "a text in UTF-8") from None
    pieces = split_holes(text, config.marker)
    run.step("loading the model")
    loaded = load_code_model(config.model, groups=given_groups(config), device=config.device)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        fills = infill_many(
            loaded.model,
            loaded.tokenizer,
            [pieces],
            config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p if config.temperature else 1.0,
            seed=config.seed,
            progress=run.progress,
        )[0]
    filled = "".join(part for pair in zip(pieces, [*(f.text for f in fills), ""], strict=True) for part in pair)
    name = f"filled{path.suffix or '.txt'}"
    write_text(run.output(name), filled)
    rows: list[list[Any]] = []
    before = pieces[0]
    examples = []
    for number, (fill, after) in enumerate(zip(fills, pieces[1:], strict=True), 1):
        rows.append([number, before.count("\n") + 1, fill.text, fill.finished])
        examples.append({"prefix": before, "suffix": after, "fill": fill.text})
        before += fill.text + after
    count = len(fills)
    closed = sum(fill.finished for fill in fills)
    return runs.Report(
        headline=f"{count} hole{'s' * (count > 1)} of {path.name} filled, {closed} of them closed by the model.",
        metrics={"holes": count, "closed": closed},
        tables=[
            runs.Table(
                "Holes",
                ["number", "line", "filled with", "closed"],
                rows,
                f"A hole that is not closed was cut off after {config.max_new_tokens} tokens.",
            )
        ],
        figures=[
            runs.Figure("Filled holes", holes_figure(examples[:4], path.name), "The first holes, in their places.")
        ],
        files=[runs.ReportFile(name, "the text with its holes filled")],
        notes=[*loaded.notes, *dict.fromkeys(str(w.message) for w in said if issubclass(w.category, UserWarning))],
        lead=["The bundled model is small: it shows how infilling works, and is no help in writing."]
        if loaded.bundled
        else [],
    )


def convert(config: Config, run: runs.Run) -> runs.Report:
    """A released checkpoint as plain transformers, and other programs, load it."""
    if config.gguf:
        require_gguf()
    run.step("loading the checkpoint and checking its layout")
    loaded = load_code_model(config.model, groups=given_groups(config), device="cpu")
    if loaded.model.config.model_type != "codegen":
        found = f"a {loaded.model.config.model_type}"
        raise InputError("model", found, "a CodeGen2 checkpoint; transformers load others as they are")
    from paperworks.nn import stored_dtype

    loaded.model.to(stored_dtype(Path(config.model).expanduser()))
    files = save_all(config, run, loaded)
    return runs.Report(
        headline=f"{Path(config.model).name} converted: transformers' CodeGenForCausalLM loads it as it is.",
        metrics={"parameters": sum(p.numel() for p in loaded.model.parameters())},
        files=files,
        lead=loaded.notes,
    )


def save_all(config: Config, run: runs.Run, loaded: Loaded) -> list[runs.ReportFile]:
    """The model as a Hugging Face folder and, where asked for, as a Phi and as GGUF; and the prompt format."""
    run.step("saving")
    model, tokenizer = loaded.model, loaded.tokenizer
    out = run.output("model")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_text(run.output("prompt_format.json"), json.dumps(prompt_format(tokenizer), indent=1))
    files = [
        runs.ReportFile("model", "the model and its tokenizer, for transformers"),
        runs.ReportFile("prompt_format.json", "how to ask it for an infill, and settings of an editor's plug-in"),
    ]
    if config.phi:
        out = run.output("phi")
        to_phi(model).save_pretrained(out)
        tokenizer.save_pretrained(out)
        files.append(runs.ReportFile("phi", "the same model as a Phi"))
    if config.gguf:
        save_gguf(model, tokenizer, run.output("model.gguf"))
        files.append(runs.ReportFile("model.gguf", "the same model for llama.cpp"))
    return files
