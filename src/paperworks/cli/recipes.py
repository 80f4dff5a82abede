"""The commands that execute recipes: ``run`` and ``compare-methods``, with flags from the recipe's Config."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from paperworks import catalog
from paperworks.cli import show
from paperworks.cli.options import COMPLETION

COMPARISON = "compare-methods"


def run_app(arguments: list[str]) -> App:
    """``run``. A paper's flags are generated only when it is named."""
    app = App(
        name="run",
        help="Run a paper's method. 'paperworks run SLUG --help' lists its options.",
        help_format="plaintext",
    )
    if arguments[:1] not in (["run"], [COMPLETION]):
        return app
    named = arguments[1] if arguments[0] == "run" and len(arguments) > 1 and not arguments[1].startswith("-") else None
    if named is None:
        for paper in catalog.papers():
            if not paper.has_recipe:
                continue
            app.command(App(name=paper.slug, help=paper.purpose))
        return app
    paper = catalog.find_with_recipe(named)
    arguments[1] = paper.slug
    app.command(_recipe_command(paper.slug, f"{paper.module}.recipe", paper.extra), name=paper.slug, help=paper.purpose)
    return app


def comparison_app(arguments: list[str]) -> App:
    """``compare-methods``; its flags come from its Config, and only when it is named."""
    words = "Prune a checkpoint by several methods to the same size, and set size, speed and quality side by side."
    app = App(name=COMPARISON, help=words, help_format="plaintext")
    if arguments[:1] == [COMPARISON]:
        app.default(_recipe_command(COMPARISON, "paperworks.comparison.recipe", "llm", in_parts=True))
    return app


def _recipe_command(slug: str, module: str, extra: str, in_parts: bool = False) -> Any:
    """``in_parts``: on a cluster the recipe runs here and gives parts of its work to the nodes."""
    from paperworks.cli.engines import ADDRESS, CPUS, ENGINE, GPUS, EngineName, make_engine
    from paperworks.cli.options import config_command, merge_options, option_names
    from paperworks.extras import require_extra
    from paperworks.runs.config import build_config
    from paperworks.runs.recipe import load_recipe

    recipe = load_recipe(slug, module)

    def option(name: str, kind: Any, text: str, default: Any = None, **more: Any) -> inspect.Parameter:
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, Parameter(help=text, **more)],
        )

    flags = [
        option("out", Path | None, "a new folder for what the run makes; nothing existing is overwritten"),
        option("config", Path | None, "a .toml or .json file of options; flags override it"),
        option("engine", EngineName, ENGINE, "local"),
        option("address", str | None, ADDRESS),
        option("cpus", float | None, CPUS),
        option("gpus", float | None, GPUS),
        option("time_limit", str | None, "end the run after this time (90s, 10m, 2h); uses a child process"),
        option("memory_limit", str | None, "end the run above this memory (500MiB, 8GiB); uses a child process"),
        option("quiet", bool, "no progress", False, negative=""),
        option("json", bool, "print the report as JSON", False, negative=""),
    ]

    def call(given: dict[str, Any]) -> None:
        with option_names(recipe.config):
            execute(given)

    def execute(given: dict[str, Any]) -> None:
        from paperworks.runs.store import Store

        require_extra(extra, slug)
        own = {p.name: given.pop(p.name, p.default) for p in flags}
        config = build_config(recipe.config, merge_options(recipe.config, own["config"], given))
        out: Path | None = own["out"]
        if out is not None:
            Store.require_writable(out)
        named = {name: own[name] for name in ("address", "cpus", "gpus", "time_limit", "memory_limit")}
        engine = make_engine(own["engine"], **named, in_parts=in_parts)
        store = Store()
        run_id = store.create(slug, recipe.module, config, out)
        execute_run(store, run_id, engine, out, own["quiet"], own["json"])

    return config_command(recipe.config, call, flags)


def execute_run(store: Any, run_id: str, engine: Any, out: Path | None, quiet: bool, json: bool) -> None:
    """Execute a run with live progress, then publish and print it. An error says how to go on."""
    from paperworks.errors import PaperworksError
    from paperworks.runs.live import LiveEvents

    if out is not None:
        store.require_writable(out)
    try:
        with LiveEvents(quiet) as live:
            record = engine.execute(store, run_id, live)
    except PaperworksError as error:
        if (store.working / run_id).is_dir():
            error.args = (f"{error} (to go on: paperworks resume {run_id})",)
        raise
    publish_run(store, record, out, json)


def publish_run(store: Any, record: Any, out: Path | None, json: bool) -> None:
    """Copy a finished run's result to ``out``, if given, and print its report."""
    if out is not None:
        store.publish(record.id, out)
    if json:
        print((record.folder / "report.json").read_text(encoding="utf-8"))
    else:
        show.print_report(record.folder, out)
