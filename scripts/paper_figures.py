"""Pictures for the cards of the page: a figure of a paper's run on its bundled input, as figure.webp in its folder.

    python scripts/paper_figures.py paging fold-se [--figure 1]

The run is the one of ``paperworks run SLUG`` with all options at their defaults. ``--figure`` is the number of the
report's figure, from 1. The figure is drawn by Chromium, at twice the size of a card's picture, on white.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from paperworks import catalog
from paperworks.errors import InputError

WIDTH, HEIGHT = 640, 400
MOST_BYTES = 40_000
CODE = "from paperworks.cli import main; main()"


def run_figures(slug: str, home: Path) -> list[Path]:
    """The figures (SVG) of a run with the defaults, in the order of the report."""
    environment = os.environ | {"PAPERWORKS_HOME": str(home)}
    subprocess.run([sys.executable, "-c", CODE, "run", slug], env=environment, check=True, stdout=subprocess.DEVNULL)
    return sorted(home.rglob("figures/*.svg"))


def draw(figure: Path) -> bytes:
    """A figure as WebP of WIDTH x HEIGHT, whole and centred."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.set_content(
            f"<style>body{{margin:0;display:grid;place-items:center;height:{HEIGHT}px;background:#fff}}"
            f"svg{{max-width:{WIDTH - 16}px;max-height:{HEIGHT - 16}px;width:100%;height:100%}}</style>"
            + figure.read_text(encoding="utf-8").partition("<svg")[1]
            + figure.read_text(encoding="utf-8").partition("<svg")[2]
        )
        picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        browser.close()
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=6)
    return out.getvalue()


def main() -> int:
    """Make the pictures of the papers that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slugs", nargs="+")
    parser.add_argument("--figure", type=int, default=1, help="number of the report's figure, from 1")
    given = parser.parse_args()
    for slug in given.slugs:
        paper = catalog.find(slug)
        with tempfile.TemporaryDirectory() as home:
            figures = run_figures(paper.slug, Path(home))
            if not 1 <= given.figure <= len(figures):
                raise InputError("figure", given.figure, f"1 to {len(figures)}: {', '.join(f.stem for f in figures)}")
            content = draw(figures[given.figure - 1])
        if len(content) > MOST_BYTES:
            raise InputError(slug, f"a picture of {len(content):,} bytes", f"at most {MOST_BYTES:,}")
        aside = paper.folder / ".figure.partial"
        aside.write_bytes(content)
        aside.replace(paper.folder / "figure.webp")
        print(f"{slug}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
