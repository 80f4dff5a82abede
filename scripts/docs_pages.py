"""Pages of the documentation site that are made when it is built: the start page, the papers and the API reference.

mkdocs calls the functions of this file (see ``hooks`` in mkdocs.yml). Nothing is written into the checkout.

The start page is README.md, the page for contributors CONTRIBUTING.md, a paper's page its README. The list of tutorials
is made of their first lines: the question, and what the reader leaves with. A page of the API reference lists the
public names of one shared package, or of one module that CONTRIBUTING.md names; mkdocstrings fills in signatures and
docstrings.
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
NAMED = re.compile(r"`paperworks\.([a-z_]+(?:\.\w+)*)")
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
    for name in documented():
        files.append(File.generated(config, f"reference/{name}.md", content=_reference(name)))
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


def documented() -> list[str]:
    """Shared packages with a list of public names, papers and the web page left out; modules of CONTRIBUTING.md."""
    listed = [path.parent for path in SOURCE.glob("**/__init__.py") if "__all__" in path.read_text(encoding="utf-8")]
    names = {".".join(folder.relative_to(SOURCE).parts) for folder in listed} - {""}
    for name in NAMED.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        names |= _modules(name)
    return sorted(name for name in names if name.split(".")[0] not in ("papers", "page", "cli"))


def _modules(name: str) -> set[str]:
    """The module that a dotted name is or is in; none where it is in a package."""
    parts = name.split(".")
    beginnings = [parts[:n] for n in range(1, len(parts) + 1)]
    return {".".join(b) for b in beginnings if SOURCE.joinpath(*b).with_suffix(".py").is_file()}


def public_names(tree: ast.Module) -> list[str]:
    """What ``__all__`` lists; without it the functions and classes."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in defined if not name.startswith("_")]


def _reference(name: str) -> str:
    path = SOURCE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [f"# paperworks.{name}", "", "```text", ast.get_docstring(tree) or "", "```", ""]
    for public in public_names(tree):
        lines += [f"::: paperworks.{name}.{public}", ""]
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
