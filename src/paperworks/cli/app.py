"""The commands. Each imports what it needs when it runs, so that ``paperworks list`` starts at once."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

import paperworks
from paperworks import catalog
from paperworks.cli import data, doctor, feed, mcp, page, show
from paperworks.cli.engines import CPUS, Address, EngineName, check_ray_flags, make_engine
from paperworks.cli.recipes import COMPARISON, comparison_app, execute_run, publish_run, run_app
from paperworks.errors import InputError

Switch = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a table")]


def build_app(arguments: list[str]) -> App:
    """The command line. A paper's own flags are generated only when ``run`` names the paper."""
    app = App(
        name="paperworks",
        version=paperworks.__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative_iterable=()),
        help="Machine-learning papers that work, on your own model or data. "
        "Errors are one line, with exit code 2; --debug shows the traceback.",
    )
    for name, function in (
        ("list", list_papers),
        ("search", search),
        ("show", show_paper),
        ("runs", list_runs),
        ("open", open_run),
        ("resume", resume),
        ("compare", compare),
        ("remove", remove),
        ("reproduce", reproduce),
        ("new", new),
        ("mcp", mcp.mcp),
        ("doctor", doctor.doctor),
    ):
        app.command(function, name=name)
    app.command(run_app(arguments), name="run")
    app.command(comparison_app(arguments), name="compare-methods")
    app.command(data.data_app(), name="data")
    app.command(feed.feed_app(), name="feed")
    app.command(page.page_app(), name="page")
    app.command(page.digest_app(), name="digest")
    app.register_install_completion_command(
        help="Make Tab complete commands and papers in your shell (bash, zsh, fish)."
    )
    return app


def list_papers(*, tag: str | None = None, works: Switch = False, json: Json = False) -> None:
    """List the papers: what each is for, whether it works here, how many of its claims hold.

    Parameters
    ----------
    tag
        only papers with this tag
    works
        only papers that work
    """
    found = catalog.papers(tag=tag, works=True if works else None)
    if json:
        print(jsonlib.dumps([p.to_dict() for p in found], indent=1))
    else:
        show.print_papers(found)


def search(*words: str, limit: int = 10, meaning: Switch = False, json: Json = False) -> None:
    """Search the papers by words or, with the extra 'encoder', by words and meaning.

    Parameters
    ----------
    words
        what you are looking for, as in: paperworks search "make a language model smaller"
    limit
        at most so many papers (1 or more)
    meaning
        also find papers that share no word with the query (takes some seconds)
    """
    found, method = catalog.search(" ".join(words), limit=limit, meaning=meaning)
    if json:
        print(jsonlib.dumps([p.to_dict() | {"score": round(s, 6), "ranked_by": method} for p, s in found], indent=1))
    else:
        show.print_papers(
            [p for p, _ in found], note=f"Ranked by {method}." if found else "No paper has one of these words."
        )


def show_paper(slug: str, *, json: Json = False) -> None:
    """Show a paper in our words: its claims, what was measured here, how to use it.

    Parameters
    ----------
    slug
        the paper's slug or arXiv id
    """
    paper = catalog.find(slug)
    if json:
        print(jsonlib.dumps(show.paper_dict(paper), indent=1))
    else:
        show.print_paper(paper)


def list_runs(*, paper: str | None = None, json: Json = False) -> None:
    """List the runs, newest first: finished, running, and those that can be resumed.

    Parameters
    ----------
    paper
        only runs of this paper
    """
    from paperworks.runs.store import Store

    records = Store().records(None if paper is None else catalog.find(paper).slug)
    if json:
        print(jsonlib.dumps([r.to_dict() for r in records], indent=1))
    else:
        show.print_runs(records)


def open_run(run: str, *, browser: bool = True, json: Json = False) -> None:
    """Show a run's report, and open its HTML page in the browser where there is one.

    Parameters
    ----------
    run
        the run's id, its beginning or end, or 'last'
    browser
        open the HTML report in the browser
    """
    import sys

    from paperworks.runs.store import Store

    record = Store().find(run)
    if record.status != "finished":
        raise InputError(
            "run",
            f"{record.id}, which is {record.status} ({record.headline})",
            f"a finished run; to go on: paperworks resume {record.id}",
        )
    if json:
        print((record.folder / "report.json").read_text(encoding="utf-8"))
        return
    show.print_report(record.folder)
    if browser and sys.stdout.isatty():
        import webbrowser

        webbrowser.open((record.folder / "report.html").as_uri())


def compare(first: str, second: str, *, json: Json = False) -> None:
    """Set two finished runs side by side: the options that differ and every figure that both report.

    Parameters
    ----------
    first
        a run's id, its beginning or end, or 'last'
    second
        another run
    """
    from paperworks.runs.store import Store

    store = Store()
    comparison = show.compare_runs(store.find(first), store.find(second))
    if json:
        print(jsonlib.dumps(comparison, indent=1))
    else:
        show.print_comparison(comparison)


def resume(
    run: str,
    *,
    out: Path | None = None,
    engine: EngineName = "local",
    address: Address = None,
    quiet: Switch = False,
    json: Json = False,
) -> None:
    """Go on with a run that was cancelled, failed or killed, from its last checkpoint.

    Parameters
    ----------
    run
        the run's id, its beginning or end, or 'last'
    out
        a new folder for what it makes; by default the one that the run was started with
    engine
        where it runs: in this process, in a child process, or on a Ray cluster
    quiet
        no progress
    """
    from paperworks.runs.store import Store

    store = Store()
    record = store.find(run)
    saved = store.about(record.folder).get("out")
    target = out or (Path(saved) if saved else None)
    if record.status != "finished":
        in_parts = record.slug == COMPARISON
        execute_run(store, record.id, make_engine(engine, address=address, in_parts=in_parts), target, quiet, json)
    elif target is None or (out is None and target.exists() and any(target.iterdir())):
        raise InputError("run", f"{record.id}, which is finished", "an unfinished run, or --out to copy its result to")
    else:  # asked for elsewhere, or the run's process ended before it could publish
        publish_run(store, record, target, json)


def remove(*runs: str, dry_run: Switch = False, json: Json = False) -> None:
    """Remove runs for good: their reports, files and checkpoints. What '--out' was given stays.

    Parameters
    ----------
    runs
        ids of runs, their beginnings or ends, or 'last'
    dry_run
        only show what would be removed
    """
    from paperworks.runs.store import Store

    if not runs:
        raise InputError("runs", "nothing", "ids of runs; see 'paperworks runs'")
    store = Store()
    chosen = {record.id: record for record in map(store.find, runs)}
    act = store.size if dry_run else store.remove
    removed = [{**record.to_dict(), "bytes": act(run_id)} for run_id, record in chosen.items()]
    if json:
        print(jsonlib.dumps(removed, indent=1))
    else:
        show.print_removed(removed, dry_run)


def reproduce(
    *slugs: str,
    study: tuple[str, ...] = (),
    all: Switch = False,
    fast: Switch = False,
    out: Path | None = None,
    engine: Literal["local", "ray"] = "local",
    address: Address = None,
    cpus: Annotated[float | None, Parameter(help=CPUS)] = None,
    gpus: Annotated[float | None, Parameter(help="GPUs of a node that are kept for a study")] = None,
    quiet: Switch = False,
    json: Json = False,
) -> int:
    """Measure the claims of papers again; write the results that the package ships and docs/reproductions.md.

    Where a study fails, the others are measured and written, and what was measured before of the failed one stays; the
    exit status is 1.

    Parameters
    ----------
    slugs
        the papers; or --all
    study
        only this study of one paper, again for more; the others keep what was measured before
    all
        every paper that is here
    fast
        a small version of each study in seconds; prints its findings and writes nothing
    out
        write the results into this folder instead of the checkout
    engine
        where the studies run: here one after the other, or on a Ray cluster many at once
    quiet
        no progress
    """
    from paperworks import reproduction
    from paperworks.runs.files import require_writable
    from paperworks.runs.live import LiveEvents

    check_ray_flags(engine, address=address, cpus=cpus, gpus=gpus)
    if all == bool(slugs):
        raise InputError("slugs", "papers together with --all" if slugs else "nothing", "the slugs of papers, or --all")
    chosen = [p for p in catalog.papers() if p.has_study] if all else [catalog.find(s) for s in slugs]
    if study and len(chosen) != 1:
        raise InputError("study", f"{len(chosen)} papers", "one paper")
    for paper in chosen:
        reproduction.chosen_studies(paper, study)
    if out is not None:
        require_writable(out / "results", "out")
    measured: list[reproduction.Measured] = []
    written: list[Path] = []

    def done(one: reproduction.Measured) -> None:
        measured.append(one)
        if not fast and one.studies:  # at once: the next paper may be stopped
            written.extend(reproduction.write_results([one], catalog.papers, out))

    with LiveEvents(quiet) as live:
        if engine == "ray":
            from paperworks.runs.cluster import Cluster, check_share

            cpus, gpus = 1.0 if cpus is None else cpus, gpus or 0.0
            check_share("cpus", cpus, least=1.0)
            check_share("gpus", gpus)
            with Cluster(address) as cluster:
                reproduction.measure_on_cluster(
                    cluster, chosen, done, only=study, fast=fast, listener=live, cpus=cpus, gpus=gpus
                )
        else:
            for paper in chosen:
                done(reproduction.measure(paper, only=study, fast=fast, listener=live))
    if json:
        print(jsonlib.dumps([m.results(fast) | {"errors": m.errors} for m in measured], indent=1))
    else:
        show.print_measured(measured, list(dict.fromkeys(written)), fast)
    return 1 if any(m.errors for m in measured) else 0


def new(slug: str, *, into: Path | None = None) -> None:
    """Make the folder of a new paper, with placeholders that fail and say what to write.

    Parameters
    ----------
    slug
        lower-case words joined by hyphens
    into
        the folder that gets it; by default the checkout's papers, else the current folder
    """
    from paperworks.scaffold import new_paper

    for path in new_paper(slug, into):
        print(path)
    print("Now write what the files say; CONTRIBUTING.md tells how a paper is judged.")
