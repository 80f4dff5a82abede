"""What an encoder loses where slices meet, and what the adapter wins back on EntityGrid."""

from __future__ import annotations

import json

import numpy as np

from paperworks import runs
from paperworks.metrics import wilson_interval
from paperworks.papers.hires_llava.actions.inputs import (
    STAND_IN_SIDE,
    Images,
    encoder_maker,
    entity_grid,
    read_user_images,
    the_tower,
)
from paperworks.papers.hires_llava.config import Config
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.entitygrid.positions import POSITIONS
from paperworks.papers.hires_llava.figures import canvas_figure, cuts_figure, positions_figure, profile_figure
from paperworks.papers.hires_llava.fragmentation import FragmentationReport, fragmentation_report
from paperworks.papers.hires_llava.restoration import ReadingResult, ReadingSettings, reading_accuracy
from paperworks.papers.hires_llava.towers import VisionTower
from paperworks.runs.files import write_text

WITHOUT, WITH, WHOLE = "sliced, no adapter", "sliced, with the adapter", "whole image at one slice's size"


def probe(config: Config, run: runs.Run) -> runs.Report:
    """The fragmentation of the images' tokens; then, unless ``steps`` is 0, reading with and without the adapter."""
    images = read_user_images(config, run)
    stand_in = config.encoder is None
    # the small encoder is always taught digits; what it is then asked to read may be other objects
    grid = EntityGrid("digits", canvas=2 * STAND_IN_SIDE, seed=config.seed) if stand_in else None
    tower = the_tower(config, run, grid)
    run.step("moving windows over the cuts")
    found = fragmentation_report(
        tower, images.pixels, max_slices=config.max_slices, seed=config.seed, progress=run.progress
    )
    results: dict[str, ReadingResult] = {}
    if config.steps:
        bench = grid if grid is not None and config.entities == "digits" else entity_grid(config, tower.image_size)
        results = _readings(config, run, tower, bench)
        grid = bench
    return _report(config, run, images, tower, found, results, grid)


def _readings(config: Config, run: runs.Run, tower: VisionTower, grid: EntityGrid) -> dict[str, ReadingResult]:
    settings = ReadingSettings(
        config.steps, config.batch_size, config.learning_rate, max(1, config.test_images // 9), str(config.device)
    )
    make = encoder_maker(config, sampler=None, global_view=False)
    found = {}
    for name, encoder, reading in (
        (WITHOUT, None, "sliced"),
        (WITH, make, "sliced"),
        (WHOLE, None, "low-resolution"),
    ):
        run.step(f"EntityGrid: {name}, {config.steps} steps")
        stem = "-".join(name.replace(",", "").replace("'", "").split())
        kept = run.state / f"{stem}.json"
        if kept.is_file():
            content = json.loads(kept.read_text(encoding="utf-8"))
            found[name] = ReadingResult(np.array(content["by_position"]), content["losses"])
            continue
        found[name] = reading_accuracy(
            tower,
            grid,
            settings,
            encoder=encoder,
            reading=reading,  # type: ignore[arg-type]
            seed=config.seed,
            checkpoint_dir=run.state / stem,
            progress=run.progress,
        )
        content = {"by_position": found[name].by_position.tolist(), "losses": found[name].losses}
        write_text(kept, json.dumps(content))
    return found


def _report(
    config: Config,
    run: runs.Run,
    images: Images,
    tower: VisionTower,
    found: FragmentationReport,
    results: dict[str, ReadingResult],
    grid: EntityGrid | None,
) -> runs.Report:
    name = tower.kind if config.encoder is None else f"{tower.kind} ({config.encoder})"
    headline = (
        f"Where slices meet, tokens of {name} change by {found.beside:.0%} of their norm when the window moves off the "
        f"cut, {found.ratio.estimate:.2f} times as much as where no cut is near"
    )
    metrics = {
        "change_beside_cuts": found.beside,
        "change_mid_window": found.middle,
        "fragmentation_ratio": found.ratio.estimate,
    }
    labels = {"fragmentation_ratio": "change beside cuts, over mid-window"}
    if results:
        before, after = results[WITHOUT], results[WITH]
        headline += (
            f"; objects on a cut are read in {before.edge:.0%} of cases, and in {after.edge:.0%} with the adapter"
        )
        metrics |= {
            "edge_without": before.edge,
            "edge_with": after.edge,
            "inside_without": before.inside,
            "inside_with": after.inside,
            "center_without": before.center,
            "center_with": after.center,
        }
        labels |= {
            "edge_without": "read on cuts, without adapter",
            "edge_with": "read on cuts, with adapter",
        }
    content = {"encoder": name, "fragmentation": found.to_dict()}
    if results:
        content["entitygrid"] = {key: value.by_position.round(6).tolist() for key, value in results.items()}
    write_text(run.output("fragmentation.json"), json.dumps(content, indent=2) + "\n")
    return runs.Report(
        headline=headline + ".",
        lead=_lead(config, images, tower, found, results),
        metrics=metrics,
        labels=labels,
        tables=_tables(config, tower, found, results),
        figures=_figures(images, found, results, grid),
        files=[runs.ReportFile("fragmentation.json", "all figures of this report")],
        notes=_notes(config, tower, results),
    )


def _lead(
    config: Config, images: Images, tower: VisionTower, found: FragmentationReport, results: dict[str, ReadingResult]
) -> list[str]:
    cut = f"{len(found.images):,} image{'s' * (len(found.images) != 1)} cut into slices of {tower.image_size} x "
    lines = [f"{cut}{tower.image_size} pixels, at most {config.max_slices} each; {found.uncut:,} fit into one slice"]
    if config.encoder is None and config.images != "digits":
        lines.append(
            f"No encoder was given: the figures are those of a small one of {STAND_IN_SIDE} x {STAND_IN_SIDE} pixels "
            "that knows digits only. Give yours with --encoder: a folder of CLIP, SigLIP, DINOv2 or ViT"
        )
    if results and config.encoder is not None:
        lines.append("The encoder is frozen; only the adapter and a linear head were trained, on EntityGrid's canvases")
    return [*lines, *images.notes, *found.notes]


def _tables(
    config: Config, tower: VisionTower, found: FragmentationReport, results: dict[str, ReadingResult]
) -> list[runs.Table]:
    interval = f"{found.ratio.low:.2f} to {found.ratio.high:.2f}"
    move = max(1, tower.side // 4)
    tables = [
        runs.Table(
            "Change of a token when the window moves",
            ["where", "change", "times", "interval (95%)"],
            [
                ["beside a cut", found.beside, found.ratio.estimate, interval],
                ["mid-window, the same patches", found.middle, 1.0, ""],
            ],
            note=f"The window moves by {move} patch{'es' * (move > 1)} of {tower.patch_size} pixels; change is "
            "|a - b| / |b|. No adapter, no training.",
        )
    ]
    if results:
        each = max(1, config.test_images // 9)
        rows: list[list[runs.report.Cell]] = []
        for name, one in results.items():
            low = wilson_interval(round(one.edge * 4 * each), 4 * each)
            rows.append(
                [name, one.inside, one.edge, one.center, one.disc1, one.disc2, f"{low.low:.2f} to {low.high:.2f}"]
            )
        tables.append(
            runs.Table(
                "EntityGrid: accuracy of naming one object",
                ["the encoder sees", "inside slices", "on a cut", "at the center", "Disc1", "Disc2", "on a cut (95%)"],
                rows,
                note="Disc1 is inside less on a cut, Disc2 inside less center; both are 0 for a reader that fails "
                f"everywhere. {each} unseen objects at each of {len(POSITIONS)} positions.",
            )
        )
    return tables


def _figures(
    images: Images, found: FragmentationReport, results: dict[str, ReadingResult], grid: EntityGrid | None
) -> list[runs.Figure]:
    figures = [
        runs.Figure(
            "Where the cuts run, and what changes beside them",
            cuts_figure(found, images.names),
            "Below: how much tokens near a cut differ from those of a window in whose middle the cut lies.",
        )
    ]
    if len(found.profile) > 1:
        figures.append(runs.Figure("Change by distance from a cut", profile_figure(found)))
    if results and grid is not None:
        names = {1: "inside", 2: "on a cut", 5: "at the center"}
        canvases = [grid.draw([(i, p)]) for i, p in enumerate(names)]
        figures.append(
            runs.Figure("Canvases of EntityGrid with their cuts", canvas_figure(canvases, [*names.values()]))
        )
        tables = {name: one.by_position.reshape(3, 3) for name, one in results.items()}
        figures.append(
            runs.Figure(
                "EntityGrid: accuracy at the nine positions",
                positions_figure(tables),
                "The cuts run through the middle row and the middle column.",
            )
        )
    return figures


def _notes(config: Config, tower: VisionTower, results: dict[str, ReadingResult]) -> list[str]:
    notes = []
    if config.encoder is None:
        notes.append(
            f"The small encoder: {tower.depth} layers, width {tower.width}, {tower.side} x {tower.side} patches, "
            f"trained {config.pretrain_steps} steps on single digits."
        )
    if results:
        notes.append(
            "The heat maps are of objects that training has not seen; training places objects at all nine positions."
        )
    else:
        notes.append("EntityGrid was left out (--steps 0).")
    return notes
