"""Pages of the documentation site that are made when it is built: the start page, the papers and the API reference.

mkdocs calls the functions of this file (see ``hooks`` in mkdocs.yml). Nothing is written into the checkout.

The start page is README.md, the page for contributors CONTRIBUTING.md, a paper's page its README. The list of tutorials
is made of their first lines: the question, and what the reader leaves with. A page of the API
reference lists the public names (``__all__``) of one shared package; mkdocstrings fills in signatures and docstrings.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "paperworks"
TUTORIALS = ROOT / "docs" / "tutorials"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")

homes: dict[Path, str] = {}
"""The page of the site on which each file of the checkout stands."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the files of the checkout that pages link to."""
    made = {"index.md": ROOT / "README.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
    made |= {"changelog.md": ROOT / "CHANGELOG.md"}
    made |= {f"papers/{path.parent.name}.md": path for path in sorted(SOURCE.glob("papers/*/README.md"))}
    homes.update({path: page for page, path in made.items()})
    homes.update({Path(file.abs_src_path): file.src_uri for file in files if file.abs_src_path})
    files.append(File.generated(config, "tutorials/index.md", content=tutorials_index()))
    for page, path in made.items():
        files.append(File.generated(config, page, content=_with_links(path, page)))
    for package in _packages():
        files.append(File.generated(config, f"reference/{package}.md", content=_reference(package)))
    return files


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:  # type: ignore[no-untyped-def]
    """Links of a page in docs/ to a README lead to its page here; to other files outside they become plain text."""
    path = Path(page.file.abs_src_path or "")
    return _with_links(path, page.file.src_uri, markdown) if path.is_relative_to(ROOT / "docs") else markdown


def tutorials_index() -> str:
    """The list of tutorials: question, what one leaves with, paper."""
    lines = [
        "# Tutorials",
        "",
        "Each begins with a question of somebody who has data, and ends with files that their tools open.",
        "",
    ]
    lines += ["| question | you leave with | paper |", "| --- | --- | --- |"]
    for path in sorted(TUTORIALS.glob("*.md")):
        question, _, rest = path.read_text(encoding="utf-8").partition("\n")
        leave = rest.strip().partition("\n\n")[0].replace("\n", " ").removeprefix("You leave with ")
        folder = path.stem.replace("-", "_")
        lines.append(
            f"| [{question.removeprefix('# ')}]({path.name}) | {leave} | [{path.stem}](../papers/{folder}.md) |"
        )
    return "\n".join(lines) + "\n"


def _packages() -> list[str]:
    """Shared packages and modules with a list of public names, papers and the web page left out."""
    found = [path for path in SOURCE.glob("**/__init__.py") if _public_names(path)]
    names = [".".join(path.parent.relative_to(SOURCE).parts) for path in found]
    return sorted(n for n in names if n and n.split(".")[0] not in ("papers", "page", "cli"))


def _public_names(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _reference(package: str) -> str:
    names = _public_names(SOURCE.joinpath(*package.split("."), "__init__.py"))
    text = ast.get_docstring(ast.parse(SOURCE.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8")))
    lines = [f"# paperworks.{package}", "", "```text", text or "", "```", ""]
    for name in names:
        lines += [f"::: paperworks.{package}.{name}", ""]
    return "\n".join(lines)


def _with_links(path: Path, page: str, text: str | None = None) -> str:
    """The text of a file with its relative links made right for its place in the site.

    A link to a page of the site leads there. A link to another file of the checkout becomes its path, set as code.
    """
    text = path.read_text(encoding="utf-8") if text is None else text

    def target(match: re.Match[str]) -> str:
        wanted = Path(os.path.normpath(path.parent / match[1]))
        if not wanted.exists():
            return match[0]  # mkdocs reports it
        if wanted in homes:
            return posixpath.relpath(homes[wanted], posixpath.dirname(page) or ".") + (match[2] or "")
        return f"OUTSIDE:{wanted.relative_to(ROOT) if wanted.is_relative_to(ROOT) else match[1]}"

    text = LINK.sub(target, text)
    return re.sub(r"!?\[([^\]]*)\]\(OUTSIDE:([^)]*)\)", r"\1 (`\2`)", text)
