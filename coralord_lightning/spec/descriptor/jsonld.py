"""Owns a descriptor as Croissant JSON-LD: the request for a subset, written and read. Reads no file.

Every key of the descriptor stands as JSON under one term of ours, `cl:descriptor`, so that nothing is lost on the way;
what else the document says is the parent's, for readers of Croissant, and is not read back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from coralord_lightning.errors import DescriptorSyntaxError
from coralord_lightning.spec.croissant.terms import read_context
from coralord_lightning.spec.descriptor.model import SubsetDescriptor

__all__ = ["SUBSET", "descriptor_document", "is_json", "read_jsonld"]

SUBSET = "https://w3id.org/coralord-lightning/subset/0.1"
_NAMESPACE = "https://w3id.org/coralord-lightning/ns#"
_TERM = f"{_NAMESPACE}descriptor"


def is_json(text: str) -> bool:
    """Whether a descriptor's text is JSON-LD, and no YAML that is written in braces."""
    return text.lstrip("\ufeff \t\r\n").startswith("{") and '"@context"' in text


def read_jsonld(text: str, *, origin: str) -> dict[str, Any]:
    """The descriptor's keys in a JSON-LD document.

    Raises:
        DescriptorSyntaxError: it is no JSON, or no descriptor.
    """
    try:
        document = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, origin))
    except json.JSONDecodeError as error:
        raise DescriptorSyntaxError(
            origin,
            f"is no JSON: {error.msg}",
            facts={"at": f"{origin}:{error.lineno}"},
            remedy=f"mend line {error.lineno}, or write the descriptor as YAML",
        ) from error
    except (RecursionError, ValueError) as error:
        raise DescriptorSyntaxError(
            origin, "is no JSON that can be read", facts={"got": str(error)[:80]}, remedy="write it as YAML"
        ) from error
    context = read_context(document.get("@context"), origin=origin)
    found = next((value for key, value in document.items() if context.fold(key) == _TERM), None)
    if isinstance(found, Mapping) and "@value" in found:
        found = found["@value"]
    if not isinstance(found, dict):
        name = origin.rpartition("/")[2]
        raise DescriptorSyntaxError(
            origin,
            "is no descriptor: it does not say cl:descriptor",
            facts={"expected": f'"cl:descriptor": {{"name": …}}, as `coral describe D.yaml -o {name}` writes it'},
            remedy=f"printf 'name: subset\\ncroissant: {name}\\n' > subset.yaml     # for a plain Croissant",
        )
    return found


def descriptor_document(descriptor: SubsetDescriptor, parent: Mapping[str, Any] | None) -> dict[str, Any]:
    """A descriptor as JSON-LD.

    Args:
        parent: the Croissant document that it selects from; None where it is not at hand.
    """
    from coralord_lightning.spec.infer import CONTEXT

    keys = descriptor_keys(descriptor)
    inline = (parent or {}).get("@context")
    context = dict(inline) if isinstance(inline, Mapping) else dict(CONTEXT)
    context |= {
        "prov": "http://www.w3.org/ns/prov#",
        "cl": _NAMESPACE,
        "cl:descriptor": {"@id": _TERM, "@type": "@json"},
    }
    kept = {key: value for key, value in (parent or {}).items() if key not in ("@context", "name", "@id")}
    conforms = kept.pop("conformsTo", None) or kept.pop("dct:conformsTo", None) or "http://mlcommons.org/croissant/1.1"
    listed = conforms if isinstance(conforms, list) else [conforms]
    return {
        "@context": context,
        "@type": "sc:Dataset",
        **kept,
        "name": descriptor.name.replace("/", "-"),
        "conformsTo": [*listed, *([] if SUBSET in listed else [SUBSET])],
        "cl:descriptor": keys,
    }


def descriptor_keys(descriptor: SubsetDescriptor) -> dict[str, Any]:
    """The keys of a descriptor as a user writes them, as JSON values."""
    keys = descriptor.model_dump(mode="json", by_alias=True, exclude_unset=True)
    fields = descriptor.fields
    if fields is not None:
        options = {name: item.model_dump(mode="json", exclude_unset=True) for name, item in fields.options.items()}
        keys["fields"] = (
            list(fields.names) if fields.ordered else {name: options.get(name, {}) for name in fields.names}
        )
    return keys


def _once(pairs: list[tuple[str, Any]], origin: str) -> dict[str, Any]:
    """An object whose keys stand there once."""
    out = dict(pairs)
    if len(out) != len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise DescriptorSyntaxError(
            origin, f"says the key {twice!r} twice", remedy=f"take one of the two {twice!r} out"
        )
    return out
