"""``python -m paperworks.reproduction.child SLUG STUDY FOLDER fast|whole``: one study, on a node of a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from paperworks import catalog
from paperworks.reproduction.measuring import chosen_studies, measure_study
from paperworks.runs.processes import end_with_parent
from paperworks.runs.run import Cancelled


def main(slug: str, name: str, folder: str, size: str) -> int:
    """Measure the study; its findings, or why it has none, are in the folder."""
    end_with_parent()
    paper = catalog.find(slug)
    (study,) = chosen_studies(paper, [name])
    try:
        measure_study(study, paper.slug, Path(folder), size == "fast")
    except Cancelled as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
