"""Owns the dataset card: YAML front matter that the hub and `datasets` read, text for people. Pure; reads no row."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import datasets
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData
from huggingface_hub.utils._fixes import yaml_dump

from coralord_lightning.share.huggingface.licences import hub_licence
from coralord_lightning.sources.address import public_url
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Manifest

__all__ = ["SplitFiles", "card_text"]

_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_MOST_SOURCES = 20
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFiles:
    """One split as it was written.

    Args:
        name: as `datasets` takes it; `own_name` is that of the descriptor.
        paths: of its files, relative to the folder.
        size_bytes: of the files; `memory_bytes`: of its values in memory.
    """

    name: str
    own_name: str
    paths: tuple[str, ...]
    num_rows: int
    size_bytes: int
    memory_bytes: int


def card_text(
    manifest: Manifest, description: Description | None, features: datasets.Features, splits: Iterable[SplitFiles]
) -> str:
    """README.md of a folder of Parquet files; what is said of the version has no secrets any more."""
    files = list(splits)
    said = description or Description(name="", descriptor={}, croissant_name="", croissant_sha256="", record_set="")
    body = [
        f"# {said.name or manifest.fingerprint[:12]}",
        *_about(said),
        *_section("Fields", _fields(features, said)),
        *_section("Splits", _splits(manifest, files)),
        *_section("Provenance", _provenance(manifest, said)),
        *_section("Build it again", _rebuild(manifest, said)),
        *_section("Licence", _licence(said)),
        *_section("Citation", _citation(said)),
        *_section("Responsible AI", _rai(said)),
    ]
    return f"---\n{_front_matter(manifest, said, features, files)}\n---\n\n" + "\n\n".join(body) + "\n"


def _front_matter(manifest: Manifest, said: Description, features: datasets.Features, files: list[SplitFiles]) -> str:
    licence = hub_licence(_texts(said.metadata.get("sc:license")))
    languages = [text for text in _texts(said.metadata.get("sc:inLanguage")) if _LANGUAGE.fullmatch(text)]
    listed = [{"split": item.name, "path": f"data/{item.name}-*"} for item in files]
    data = DatasetCardData(
        pretty_name=said.name or None,
        language=languages or None,
        license=None if licence is None else licence.ids[0] if len(licence.ids) == 1 else list(licence.ids),
        license_name=None if licence is None else licence.name,
        license_link=None if licence is None else licence.link,
        size_categories=[_size_category(manifest.num_rows)],
        tags=["croissant", "coralord-lightning"],
        configs=[{"config_name": "default", "data_files": listed}],
    )
    sizes = datasets.SplitDict()
    for item in files:
        sizes.add(datasets.SplitInfo(name=item.name, num_bytes=item.memory_bytes, num_examples=item.num_rows))
    info = datasets.DatasetInfo(
        features=features,
        splits=sizes,
        download_size=sum(item.size_bytes for item in files),
        dataset_size=sum(item.memory_bytes for item in files),
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return str(data.to_yaml(line_break="\n"))


def _size_category(num_rows: int) -> str:
    for number, name in enumerate(_SIZES):
        if num_rows < 10 ** (3 + number):
            return f"n<{name}" if number == 0 else f"{_SIZES[number - 1]}<n<{name}"
    return "n>1T"


def _about(said: Description) -> list[str]:
    text = [_quote(item) for item in _texts(said.metadata.get("sc:description"))]
    name = _inline(said.croissant_name)
    of = f"[{name}](<{public_url(said.croissant_url)}>)" if said.croissant_url else name
    return [*text, *([f"A subset of {of}: record set `{_code(said.record_set)}`."] if said.croissant_name else [])]


def _fields(features: datasets.Features, said: Description) -> list[str]:
    lines = ["| field | feature | |", "|---|---|---|"]
    for name, feature in features.items():
        text = said.fields[name].text if name in said.fields else ""
        lines.append(f"| `{_code(name)}` | `{_code(_short(feature))}` | {_inline(text)} |")
    return ["\n".join(lines)]


def _short(feature: Any) -> str:
    """A feature on one line; of many classes the first."""
    names = list(getattr(feature, "names", None) or [])
    if len(names) > 8:
        return f"ClassLabel of {len(names)}: {', '.join(names[:8])}, …"
    return repr(feature)


def _splits(manifest: Manifest, files: list[SplitFiles]) -> list[str]:
    lines = ["| split | rows |", "|---|---|", *(f"| `{item.name}` | {item.num_rows:,} |" for item in files)]
    renamed = [f"`{item.name}` is `{item.own_name}` there" for item in files if item.name != item.own_name]
    empty = [f"`{split}`" for split in manifest.splits if not manifest.rows_of(split)]
    return [
        "\n".join(lines),
        *([f"Names are those that `datasets` takes; in the descriptor, {', '.join(renamed)}."] if renamed else []),
        *([f"Without a row, and left out: {', '.join(empty)}."] if empty else []),
    ]


def _provenance(manifest: Manifest, said: Description) -> list[str]:
    release = version("coralord-lightning")
    environment = manifest.plan.get("environment", {"kind": "none"})
    image = environment.get("image") or (manifest.isolation or {}).get("image")
    lines = [
        f"- fingerprint: `{manifest.fingerprint}`",
        f"- content digest: `{manifest.content_digest}`",
        f"- built: {manifest.created_at}, exported by coralord-lightning {release}",
        *([f"- Croissant: `sha256:{said.croissant_sha256}`"] if said.croissant_sha256 else []),
        f"- pipeline: {_pipeline(manifest)}, environment: {environment['kind']}{f' `{image}`' if image else ''}",
    ]
    sources = [item for item in manifest.plan.get("sources", ()) if isinstance(item, Mapping)]
    lines += [f"- source: {_source(item)}" for item in sources[:_MOST_SOURCES]]
    lines += [f"- and {len(sources) - _MOST_SOURCES:,} more sources"] if len(sources) > _MOST_SOURCES else []
    return ["\n".join(lines), "`croissant.json` describes these files to any reader of Croissant."]


def _pipeline(manifest: Manifest) -> str:
    pipeline = manifest.plan.get("pipeline")
    return f"`{pipeline['file']}:{pipeline['function']}`" if isinstance(pipeline, Mapping) else "none"


def _source(item: Mapping[str, Any]) -> str:
    where = f" <{public_url(item['url'])}>" if "url" in item else ""
    stamp = f" `sha256:{item['sha256']}`" if "sha256" in item else f" ETag `{item['etag']}`" if "etag" in item else ""
    return f"`{item.get('name', '')}`{where}{stamp}"


def _rebuild(manifest: Manifest, said: Description) -> list[str]:
    if not said.descriptor:
        return []
    text = yaml_dump(said.descriptor, sort_keys=False).rstrip()
    return [
        f"With this descriptor, and what it names beside it:\n\n{_fenced(text, 'yaml')}",
        "```bash\npip install coralord-lightning\ncoral build DESCRIPTOR\n```",
        f"The same inputs give the fingerprint `{manifest.fingerprint[:12]}…`, the same values that content digest.",
    ]


def _licence(said: Description) -> list[str]:
    stated = _texts(said.metadata.get("sc:license"))
    return [", ".join(map(_inline, stated)) if stated else "None is stated."]


def _citation(said: Description) -> list[str]:
    texts = _texts(said.metadata.get("cr:citeAs") or said.metadata.get("sc:citeAs") or said.metadata.get("sc:citation"))
    return [_fenced(text) for text in texts]


def _rai(said: Description) -> list[str]:
    lines = [
        f"- {term.removeprefix('rai:')}: {_inline(', '.join(_texts(value)))}"
        for term, value in said.metadata.items()
        if term.startswith("rai:")
    ]
    return ["\n".join(lines)] if lines else []


def _section(title: str, paragraphs: list[str]) -> list[str]:
    return [f"## {title}", *paragraphs] if paragraphs else []


def _texts(value: Any) -> list[str]:
    """What a term says, as texts: of a node its address, or its name."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, Mapping):
        known = ("@value", "sc:url", "@id", "sc:name")
        return next((_texts(value[name]) for name in known if name in value and _texts(value[name])), [])
    return [] if value is None else [str(value)]


def _inline(text: str) -> str:
    """A text of others on one line, in which nothing is Markdown."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", re.sub(r"\s+", " ", text)).strip()


def _code(text: str) -> str:
    """A text of others within backticks, in a table too."""
    return re.sub(r"\s+", " ", text).replace("`", "'").replace("|", "\\|").strip()


def _quote(text: str) -> str:
    """A text of others as a quotation: a heading in it is none of the card's."""
    lines = html.escape(text, quote=False).replace("&gt;", ">").splitlines()
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _fenced(text: str, language: str = "") -> str:
    """A text of others in a fence that it cannot close."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"
