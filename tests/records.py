"""Croissant datasets written in a few words, and the rows that a version of them has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coralord_lightning import load
from coralord_lightning.spec.infer import CONTEXT

__all__ = ["column", "field", "file", "files", "path", "prop", "record_set", "refers", "rows"]

Json = dict[str, Any]


def file(name: str, url: str | None, format_: str, /, **more: Any) -> Json:
    address = {} if url is None else {"contentUrl": url}
    return {"@type": "cr:FileObject", "@id": name, **address, "encodingFormat": format_, **more}


def files(name: str, includes: Any, format_: str, /, **more: Any) -> Json:
    return {"@type": "cr:FileSet", "@id": name, "includes": includes, "encodingFormat": format_, **more}


def field(name: str, kind: Any, of: Any = None, /, **more: Any) -> Json:
    """A field; `of` is (file, extract) or the @id of another field."""
    source: Json = {}
    if isinstance(of, str):
        source = {"source": {"field": {"@id": of}}}
    elif of is not None:
        extra = {key: more.pop(key) for key in ("transform",) if key in more}
        source = {"source": {"fileObject": {"@id": of[0]}, "extract": of[1], **extra}}
    return {"@type": "cr:Field", "@id": name, "dataType": kind, **source, **more}


def record_set(name: str, *fields: Json, **more: Any) -> Json:
    return {"@type": "cr:RecordSet", "@id": name, "field": list(fields), **more}


def refers(target: str) -> Json:
    return {"references": {"field": {"@id": target}}}


def rows(folder: Path, distribution: list[Json], *record_sets: Json, **descriptor: Any) -> list[Json]:
    """What a version has, read twice."""
    context = descriptor.pop("context", dict(CONTEXT))
    body = {"@context": context, "@type": "sc:Dataset", "distribution": distribution, "recordSet": list(record_sets)}
    (folder / "croissant.json").write_text(json.dumps(body))
    asked = {"name": "a", "croissant": "croissant.json", "record_set": record_sets[-1]["@id"], **descriptor}
    data = load(asked, base_dir=folder, home=folder / "home")
    found = data.table("train").to_pylist()
    assert load(asked, base_dir=folder, home=folder / "other home").table("train").to_pylist() == found
    return found


def column(name: str) -> Json:
    return {"column": name}


def path(said: str) -> Json:
    return {"jsonPath": said}


def prop(name: str) -> Json:
    return {"fileProperty": name}
