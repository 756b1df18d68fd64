"""What the site has beyond the Markdown of `docs/`: generated pages, drawings in place. Writes nothing into `docs/`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).resolve().parent))

from doc_floors import floors  # both lie beside this file
from doc_pages import every_page

_PICTURE = re.compile(r"^!\[(?P<alt>[^]]*)\]\((?P<path>[^)]+\.svg)\)\{ \.drawing \}$", re.MULTILINE)
_MEASURED = re.compile(r"^<!-- measured: (?P<path>\S+) -->$", re.MULTILINE)
_HIDDEN = re.compile(r"^<!-- *(run|block|page):.*?-->\n?", re.MULTILINE | re.DOTALL)
_MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that code says."""
    for address, text in every_page().items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Put drawings in place, which then follow the colours of the page, and take out what only tests read."""
    docs = Path(config["docs_dir"])
    folder = (docs / page.file.src_uri).parent
    markdown = _PICTURE.sub(lambda found: _drawing(folder / found["path"], found["alt"]), markdown)
    if page.file.src_uri == "architecture.md":
        markdown = _MERMAID.sub(lambda _: floors(docs.parent / "pyproject.toml"), markdown)
    markdown = _MEASURED.sub(lambda found: _measured(docs.parent / found["path"]), markdown)
    return _HIDDEN.sub("", markdown)


def _measured(path: Path) -> str:
    """A page of results without its title, one level down."""
    if not path.exists():
        return f"The figures lie in the repository, `{path.parent.name}/{path.name}`, and not in this archive."
    _, _, text = path.read_text(encoding="utf-8").partition("\n")
    return re.sub(r"^## ", "### ", text, flags=re.MULTILINE).strip()


def _drawing(path: Path, alt: str) -> str:
    text = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if line.strip()]  # a blank line would end the HTML
    return "\n".join(['<figure class="drawing" role="img" aria-label="' + alt + '">', *lines, "</figure>"])
