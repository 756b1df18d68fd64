"""Owns what is said of an exported version beside its files and records: whose it is, what it came from. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from coralord_lightning.sources.address import public_url, without_secrets
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.infer import CONTEXT
from coralord_lightning.spec.manifest import Manifest

__all__ = ["PREFIXES", "carried", "provenance"]

Json = Any

PREFIXES: Mapping[str, str] = {
    "prov": "http://www.w3.org/ns/prov#",
    "cl": "https://w3id.org/coralord-lightning/ns#",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "duo": "http://purl.obolibrary.org/obo/DUO_",
    "obo": "http://purl.obolibrary.org/obo/",
    "dcat": "http://www.w3.org/ns/dcat#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "spdx": "http://spdx.org/rdf/terms#",
    "wd": "https://www.wikidata.org/wiki/",
}
"""Vocabularies that licences, usage terms and provenance are written in."""
_OTHERS = frozenset(
    {"sc:name", "sc:version", "sc:sameAs", "sc:identifier", "sc:datePublished", "sc:dateCreated", "sc:dateModified",
     "dct:conformsTo", "cr:sdVersion", "sc:conformsTo"}
)  # fmt: skip
"""What is true of the parent and not of a subset."""
_ORIGINS = frozenset({"prov:wasDerivedFrom", "prov:wasGeneratedBy"})
"""The parent's own: they go with it."""
_SINGLE = frozenset(
    {"sc:description", "sc:url", "cr:citeAs", "rai:dataCollection", "rai:dataCollectionMissingData",
     "rai:dataCollectionRawData", "rai:dataImputationProtocol", "rai:dataManipulationProtocol",
     "rai:annotationsPerItem", "rai:dataSocialImpact", "rai:dataReleaseMaintenancePlan"}
)  # fmt: skip
"""Terms that have one value for mlcroissant."""
_MOST_SOURCES = 1000


def carried(description: Description) -> dict[str, Json]:
    """Licence, usage, RAI, citation, creators, keywords: what holds of the parent's rows holds of these."""
    return {
        _unfolded(term): _one(_clean(value, term)) if term in _SINGLE else _clean(value, term)
        for term, value in description.metadata.items()
        if term not in _OTHERS and term not in _ORIGINS and not term.startswith(("@", *(f"{PREFIXES['cl']}",)))
    }


def provenance(manifest: Manifest, description: Description) -> dict[str, Json]:
    """Identity, parent, and the run that made it: PROV-O, and our words for digests."""
    parent = _parent(description)
    return {
        "cl:fingerprint": manifest.fingerprint,
        "cl:contentDigest": manifest.content_digest,
        "prov:wasDerivedFrom": parent,
        "prov:wasGeneratedBy": _activity(manifest, parent["@id"]),
    }


def _parent(description: Description) -> dict[str, Json]:
    url = None if description.croissant_url is None else public_url(description.croissant_url)
    said = description.metadata
    out: dict[str, Json] = {
        "@type": "prov:Entity",
        "@id": url or f"urn:sha256:{description.croissant_sha256}",
        "name": description.croissant_name,
        "cl:sha256": description.croissant_sha256,
        "cl:recordSet": description.record_set,
    }
    if url is not None:
        out["cl:croissantUrl"] = url
    for term in ("sc:version", "sc:url", "sc:datePublished", "sc:sameAs", *sorted(_ORIGINS)):
        if term in said:
            out[_unfolded(term)] = _clean(said[term], term)
    return out


def _activity(manifest: Manifest, parent: str) -> dict[str, Json]:
    plan = manifest.plan
    out: dict[str, Json] = {
        "@type": "prov:Activity",
        "@id": "build",
        "prov:endedAtTime": manifest.created_at,
        "prov:used": [{"@id": parent}, *_sources(manifest)],
        "prov:wasAssociatedWith": {
            "@type": ["prov:SoftwareAgent", "sc:SoftwareApplication"],
            "@id": "coralord-lightning",
            "name": "coralord_lightning",
            "softwareVersion": version("coralord-lightning"),
        },
    }
    pipeline = plan.get("pipeline")
    if isinstance(pipeline, Mapping):
        out["cl:pipeline"] = {
            "@type": ["prov:Entity", "sc:SoftwareSourceCode"],
            "@id": "pipeline",
            "cl:entrypoint": f"{pipeline['file']}:{pipeline['function']}",
            "cl:code": [{"name": name, "cl:sha256": digest} for name, digest in sorted(pipeline["code"].items())],
        }
    environment = plan.get("environment")
    if isinstance(environment, Mapping):
        out["cl:environment"] = _environment(manifest, environment)
    return out


def _environment(manifest: Manifest, environment: Mapping[str, Json]) -> dict[str, Json]:
    image = environment.get("image") or (manifest.isolation or {}).get("image")
    known = {
        "cl:imageDigest": image,
        "cl:context": environment.get("context"),
        "cl:platform": environment.get("platform"),
        "cl:python": environment.get("python"),
    }
    texts = {term: value for term, value in known.items() if isinstance(value, str)}
    return {"@type": "prov:Entity", "@id": "environment", "name": environment["kind"], **texts}


def _sources(manifest: Manifest) -> list[dict[str, Json]]:
    """Every file that was read, by what pins it."""
    found = [item for item in manifest.plan.get("sources", ()) if isinstance(item, Mapping)]
    out = []
    for number, item in enumerate(found[:_MOST_SOURCES]):
        entity = {"@type": "prov:Entity", "@id": f"source-{number}", "name": str(item.get("name", number))}
        entity |= {
            f"cl:{key}": without_secrets(item[key]) if key == "url" else str(item[key])
            for key in ("sha256", "url", "etag", "lfs", "git")
            if key in item
        }
        out.append(entity)
    return out


def _unfolded(term: str) -> str:
    """A folded term as our context spells it."""
    bare = term.partition(":")[2]
    if term.startswith("sc:") or (term.startswith("cr:") and CONTEXT.get(bare) == term):
        return bare
    return next((f"{name}:{term[len(iri) :]}" for name, iri in PREFIXES.items() if term.startswith(iri)), term)


def _clean(value: Json, term: str) -> Json:
    """A value as it may stand in another document: no nested thing is taken for the dataset, nothing is secret.

    A node of the type sc:Dataset inside another is what mlcroissant may load in its place.
    """
    if isinstance(value, list | tuple):
        return [_clean(item, term) for item in value]
    if not isinstance(value, Mapping):
        return without_secrets(value)
    if term.rpartition(":")[2] in ("name", "description") and not any(key.startswith("@") for key in value):
        return value.get("en") or next(iter(value.values()), "")
    return {key: _types(item) if key in ("@type", "type") else _clean(item, key) for key, item in value.items()}


def _one(value: Json) -> Json:
    """One text of several: in one language, or one after another."""
    if isinstance(value, Mapping):
        texts = [item for item in (value.get("@value"), value.get("en"), *value.values()) if isinstance(item, str)]
        return texts[0] if texts else "n/a"
    if not isinstance(value, list):
        return value
    known = {item.get("@language"): item.get("@value") for item in value if isinstance(item, Mapping)}
    if known:
        return _one(known.get("en") or next(iter(known.values())) or "n/a")
    return "; ".join(str(item) for item in value)


def _types(value: Json) -> Json:
    if isinstance(value, list):
        return [_types(item) for item in value]
    return "prov:Entity" if isinstance(value, str) and re.search(r"(^|[:/])Dataset$", value) else value
