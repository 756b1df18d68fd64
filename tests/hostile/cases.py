"""What a hostile case is, and short ways to write Croissant files for one. Runs none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coralord_lightning.errors import CoralError
from web import Site

__all__ = ["ALL", "Ask", "Case", "Place", "add", "case", "document", "file_object", "file_set", "record_set", "source"]

Errors = type[CoralError] | tuple[type[CoralError], ...]


@dataclass
class Place:
    """Where a case may lay out what it needs.

    Args:
        folder: the dataset's; the Croissant file is written there.
        outside: holds what nobody may touch.
        site: the one server that may be asked, at 127.0.0.1.
        forbidden: `http://127.0.0.2:port`, where somebody listens.
        hosts: what names ending in `.test` resolve to, one answer a lookup; the last one stays.
    """

    folder: Path
    outside: Path
    site: Site
    forbidden: str
    hosts: dict[str, list[str]] = field(default_factory=dict)

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file of the dataset; returns its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def parquet(self, name: str = "a.parquet", **columns: Any) -> str:
        """Write a Parquet file of the dataset; returns its name."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns or {"a": [1, 2]}), self.folder / name)
        return name


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked of the package.

    Args:
        croissant: a document, the text of one, or the address of one.
        keys: of the descriptor, beside name and croissant.
        config: arguments of `Config`, over those of every case.
        act: called in place of the package; see `guilty`.
    """

    croissant: Any
    keys: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    act: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One attack.

    Args:
        attack: what it tries, in a sentence.
        lay: writes what is needed, says what to ask.
        refused: the errors it may end in; nothing: it must give `rows`.
        rows: what must come out where nothing is refused: all rows of split `train`.
    """

    name: str
    attack: str
    lay: Callable[[Place], Ask]
    refused: tuple[type[CoralError], ...] = ()
    rows: Sequence[Mapping[str, Any]] | None = None


ALL: dict[str, Case] = {}


def add(
    name: str,
    attack: str,
    lay: Callable[[Place], Any],
    *,
    refused: Errors = (),
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Put a case into the corpus; `lay` may return an Ask, or only its Croissant document."""
    assert name not in ALL, name
    assert bool(refused) != (rows is not None), f"{name}: an error or rows"

    def laid(place: Place) -> Ask:
        found = lay(place)
        return found if isinstance(found, Ask) else Ask(croissant=found)

    errors = refused if isinstance(refused, tuple) else (refused,)
    ALL[name] = Case(name=name, attack=attack, lay=laid, refused=errors, rows=rows)


def case(
    attack: str, *, refused: Errors = (), rows: Sequence[Mapping[str, Any]] | None = None
) -> Callable[[Callable[[Place], Any]], Callable[[Place], Any]]:
    """Put a function into the corpus, under its own name."""

    def decorated(lay: Callable[[Place], Any]) -> Callable[[Place], Any]:
        add(lay.__name__.replace("_", "-"), attack, lay, refused=refused, rows=rows)
        return lay

    return decorated


def file_object(url: str, format_: str = "application/x-parquet", **terms: Any) -> dict[str, Any]:
    """The FileObject `f`."""
    return {"@type": "cr:FileObject", "@id": "f", "contentUrl": url, "encodingFormat": format_, **terms}


def file_set(includes: Any, format_: str = "application/x-parquet", **terms: Any) -> dict[str, Any]:
    """The FileSet `f`."""
    return {"@type": "cr:FileSet", "@id": "f", "includes": includes, "encodingFormat": format_, **terms}


def source(column: str = "a", kind: str = "column", **terms: Any) -> dict[str, Any]:
    """A source in file `f`."""
    return {"distribution": {"@id": "f"}, "extract": {kind: column}, **terms}


def record_set(*fields: Any, name: str = "r", **terms: Any) -> dict[str, Any]:
    """A record set; fields are names, (name, type), (name, type, source), or whole nodes."""
    return {"@type": "cr:RecordSet", "@id": name, "field": [_field(name, item) for item in fields], **terms}


def _field(owner: str, said: Any) -> dict[str, Any]:
    if isinstance(said, dict):
        return said
    name, kind, where = (said, "sc:Integer", None) if isinstance(said, str) else (*said, None)[:3]
    node = {"@type": "cr:Field", "@id": f"{owner}/{name}", "name": name, "dataType": kind}
    return node | ({"source": where if where is not None else source(name)} if where != {} else {})


def document(files: Any = None, *sets: Any, **terms: Any) -> dict[str, Any]:
    """A dataset of one file (or several), and record sets; without one, the whole-number column `a` of file `f`."""
    return {
        "@context": {
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            **{term: f"cr:{term}" for term in _TERMS},
        },
        "@type": "sc:Dataset",
        "name": "hostile",
        "distribution": files if files is not None else [],
        "recordSet": list(sets) or [record_set("a")],
        **terms,
    }


_TERMS = (
    "annotation", "arrayShape", "column", "containedIn", "data", "dataType", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "jsonPath", "key", "md5", "parentField",
    "recordSet", "references", "regex", "repeated", "replace", "separator", "source", "subField", "transform",
    "unArchive", "value",
)  # fmt: skip


def dumped(croissant: Any) -> str:
    """The text of a document; a text stays what it is."""
    return croissant if isinstance(croissant, str) else json.dumps(croissant)
