"""Makes what the site has beside docs/: pages written by scripts, and the files of the repository
that pages link to. Links stay those that work in the repository, but for the pages that are written
here; the others are turned.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import commands
import recipe_keys
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
CONTRIBUTING = "CONTRIBUTING.md"  # is a page of the site
COPIED = "repository"  # where on the site the repository's own files lie
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")
MARK = re.compile(r"^```(\w+) \w+$", re.MULTILINE)  # of what tests do with a block


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that scripts write, and the files that pages link to."""
    written = {
        "recipe-keys.md": recipe_keys.page(),
        "commands.md": commands.page(),
        "contributing.md": (ROOT / CONTRIBUTING).read_text("utf-8"),
    }
    linked: set[str] = set()
    for name, text in written.items():
        files.append(File.generated(config, name, content=text))
    for page in files.documentation_pages():
        linked |= {
            path for link in LINK.findall(page.content_string) if (path := _outside(page, link))
        }
    for path in sorted(linked):
        file = File.generated(config, f"{COPIED}/{path}", abs_src_path=str(ROOT / path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links out of docs/ to the site's copies, and take away the marks that tests read."""

    def turned(match: re.Match[str]) -> str:
        path = _outside(page.file, match[1])
        if path is None:
            return _within(page.file, match[1])
        return posixpath.relpath(f"{COPIED}/{path}", posixpath.dirname(page.file.src_uri) or ".")

    return MARK.sub(r"```\1", LINK.sub(turned, markdown))


def _in_repository(file: File, link: str) -> str:
    """Return the path from the repository's root that a link leads to."""
    folder = posixpath.dirname(f"docs/{file.src_uri}")
    if file.src_uri == "contributing.md":
        folder = ""
    elif file.src_uri.startswith(f"{COPIED}/"):
        folder = posixpath.dirname(file.src_uri.removeprefix(f"{COPIED}/"))
    path = posixpath.normpath(posixpath.join(folder, link))
    return "docs/contributing.md" if path == CONTRIBUTING else path


def _outside(file: File, link: str) -> str | None:
    """Return the path of a file outside of docs/; of a report its page. None: it is within."""
    path = _in_repository(file, link)
    if path.startswith("docs/"):
        return None
    page = Path(path).with_suffix(".html")
    return page.as_posix() if (ROOT / page).is_file() else path


def _within(file: File, link: str) -> str:
    """Return the link from a page to another within docs/."""
    target = _in_repository(file, link).removeprefix("docs/")
    return posixpath.relpath(target, posixpath.dirname(file.src_uri) or ".")
