"""What MkDocs asks while it builds the site (`hooks` of mkdocs.yml): links lead where they lead in the repository.

README.md is the first page. Pages link to files outside docs/ as well: other pages, programs and settings (which become
pages with their text), folders (which become lists), and pictures. Each is under `repository/` on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUTSIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
# Shown as they are; the name says the language of the block.
TEXTS = {".py": "python", ".toml": "toml"}
# Code is left alone: blocks, and spans, in which a table on GitHub needs its bars escaped.
_PARTS = re.compile(r"^```.*?^```|`[^`\n]+`|\]\((?P<target>[^)\s]+)\)", re.MULTILINE | re.DOTALL)
# What is too short to be broken at a line's end: an option, a name, a path.
_SHORT = re.compile(r"<code>(?=[^<]{1,34}</code>)")
_NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n"


def on_config(config: Any) -> Any:
    """Make the anchors of headings those that GitHub makes."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add what lies outside docs/: the pages named above, and whatever a page links to."""
    waiting = [*(ROOT / name for name in OUTSIDE), *sorted(DOCS.rglob("*.md"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(uri_of(path)) is None:
            files.append(generated(path, config))
        for each in reached_from(path):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page to where their files are on the site."""
    here = path_of(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None:
            return found[0] if "\n" in found[0] else found[0].replace("\\|", "|")
        path, anchor = resolved(here, target)
        if path is None:
            return found[0]
        return f"]({posixpath.relpath(uri_of(path), posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return _PARTS.sub(moved, markdown) if here.suffix == ".md" else markdown


def on_page_content(html: str, *, page: Any, config: Any, files: Files) -> str:
    """Mark short code for docs/stylesheets/site.css: a browser would break `--fresh` after its hyphens."""
    return _SHORT.sub('<code class="short">', html)


def generated(path: Path, config: Any) -> File:
    """The file on the site of one outside docs/, or of a program or a folder inside."""
    uri, where = uri_of(path), path.relative_to(ROOT).as_posix()
    if path.is_dir():
        names = [f"* [{each.name}]({path.name}/{posixpath.basename(uri_of(each))})" for each in inside(path)]
        content = "\n".join([f"# {where}", "", *names, ""])
    elif path.suffix in TEXTS:
        content = f"# {where}\n\n~~~~{TEXTS[path.suffix]}\n{path.read_text(encoding='utf-8')}~~~~\n"
    else:
        return File.generated(config, uri, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
    return File.generated(config, uri, content=_NOT_SEARCHED + content, inclusion=InclusionLevel.NOT_IN_NAV)


def reached_from(path: Path) -> Iterator[Path]:
    """What a page links to, or what is in a folder; of other files, nothing."""
    if path.is_dir():
        yield from inside(path)
    elif path.suffix == ".md":
        for found in _PARTS.finditer(path.read_text(encoding="utf-8")):
            there = resolved(path, found["target"])[0] if found["target"] else None
            if there is not None:
                yield there


def inside(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.iterdir()) if not each.name.startswith((".", "__pycache__", "data"))]


def resolved(page: Path, target: str) -> tuple[Path | None, str]:
    """The file that a link of a page leads to, and its anchor; None where it leads out, or stays on the page."""
    name, hash_sign, anchor = target.partition("#")
    if not name or re.match(r"[a-z]+:", name):
        return None, ""
    path = (page.parent / name).resolve()
    return (path if path.exists() else None), hash_sign + anchor


def uri_of(path: Path) -> str:
    """The place of a file in the sources of the site."""
    if path == ROOT / "README.md":
        return "index.md"
    is_page = path.suffix not in TEXTS and not path.is_dir()
    if is_page and path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    return f"repository/{path.relative_to(ROOT).as_posix()}" + ("" if is_page else ".md")


def path_of(uri: str) -> Path:
    """The file of a page; of a page that shows a program or a folder, that."""
    if uri == "index.md":
        return ROOT / "README.md"
    if not uri.startswith("repository/"):
        return DOCS / uri
    path = ROOT / uri.removeprefix("repository/")
    return path if path.exists() else path.with_suffix("")
