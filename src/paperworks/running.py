"""``paperworks.run``: a paper's method on your own input, from Python and in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from paperworks.runs import Report


def run(
    slug: str,
    /,
    *,
    out: str | Path | None = None,
    engine: Literal["local", "child", "ray"] = "local",
    address: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Report:
    """Run a paper's method and return its report, as ``paperworks run SLUG`` does.

    The run is kept in the store: ``paperworks runs`` lists it, and after an interruption ``paperworks resume`` goes on.

    Parameters
    ----------
    slug : the paper's slug or arXiv id, such as ``"fold-se"``.
    out : a new folder for what the run makes; nothing existing is overwritten.
    engine : ``"local"`` runs in this process, ``"child"`` in a child process, ``"ray"`` on a Ray cluster.
    address : ``HOST:PORT`` of the cluster's head; by default that of ``RAY_ADDRESS``, else a cluster of this machine
        alone is started for the run. ``RayEngine`` of ``paperworks.runs.cluster`` has more options.
    progress : whether to show progress: bars in a notebook or terminal.
    **options : the paper's options by the names of its ``Config``, such as ``data="people.csv"``. Options that are not
        given have the defaults of the command line.

    Returns
    -------
    Report
        Headline, metrics, tables, figures and files. A notebook displays it. ``origin["run"]`` is the run's id, and
        ``origin["folder"]`` the folder of its files: ``out``, or the run's own.

    Raises
    ------
    InputError
        An unknown paper or option, or input that cannot be used; the message names the field.
    Cancelled, RunFailed
        The run was stopped, or ended without a report.

    Examples
    --------
    >>> import paperworks as pw
    >>> report = pw.run("paging", trace="requests.csv", id_column="key")  # doctest: +SKIP
    >>> report.headline  # doctest: +SKIP
    """
    from dataclasses import replace

    from paperworks import catalog
    from paperworks.errors import InputError
    from paperworks.runs import ChildEngine, Engine, LocalEngine, Report, Store, build_config, load_recipe
    from paperworks.runs.cluster import RayEngine
    from paperworks.runs.live import LiveEvents

    paper = catalog.find_with_recipe(slug)
    engines: dict[str, Callable[[], Engine]] = {
        "local": LocalEngine,
        "child": ChildEngine,
        "ray": lambda: RayEngine(address),
    }
    if engine not in engines:
        raise InputError("engine", repr(engine), f"one of {', '.join(engines)}")
    if address is not None and engine != "ray":
        raise InputError("address", repr(address), "an address only with engine='ray'")
    paper.require_extra()
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    config = build_config(recipe.config, options)
    target = None if out is None else Path(out)
    if target is not None:
        Store.require_writable(target)
    store = Store()
    run_id = store.create(recipe.slug, recipe.module, config, target)
    with LiveEvents(quiet=not progress) as live:
        record = engines[engine]().execute(store, run_id, live)
    if target is not None:
        store.publish(record.id, target)
    report = Report.load(record.folder)
    folder = record.folder / "files" if target is None else target.absolute()
    return replace(report, origin={**report.origin, "folder": str(folder)})
