"""JSON-LD of a Croissant dataset, versions 1.0 and 1.1, to the typed model. Reads no file, fetches no context."""

from __future__ import annotations

from collections.abc import Mapping

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant.files import parse_files
from coralord_lightning.spec.croissant.model import CroissantDataset
from coralord_lightning.spec.croissant.records import parse_record_sets
from coralord_lightning.spec.croissant.terms import Node, check_size, read_context

__all__ = ["parse_croissant"]

_STRUCTURE = frozenset(
    {"@context", "@type", "@id", "sc:distribution", "cr:distribution", "cr:recordSet", "cr:isLiveDataset"}
)


def parse_croissant(document: object, *, origin: str) -> CroissantDataset:
    """Read a dataset's description. What we do not support is kept as a reason on its node, not raised here.

    Args:
        document: decoded JSON.
        origin: the file's name or address, for messages.
    Raises:
        CroissantSyntaxError: it is no valid Croissant; names the node.
    """
    check_size(document, origin=origin)
    if not isinstance(document, Mapping):
        raise _no_dataset(origin, type(document).__name__)
    dataset = Node.of(document, read_context(document.get("@context"), origin=origin), origin)
    if "@graph" in document:
        raise dataset.error(
            "is flattened JSON-LD (@graph)", expected="nested JSON-LD: the dataset with its distribution and recordSet"
        )
    types = dataset.types()
    if "sc:Dataset" not in types:
        raise _no_dataset(origin, ", ".join(types) or "no @type")
    files = parse_files(dataset)
    return CroissantDataset(
        origin=origin,
        name=dataset.text("sc:name") or origin,
        files=files,
        record_sets=parse_record_sets(dataset, files),
        metadata={term: value for term, value in dataset.terms.items() if term not in _STRUCTURE},
        is_live=dataset.get("cr:isLiveDataset") in (True, "true", "True"),
    )


def _no_dataset(origin: str, got: str) -> CroissantSyntaxError:
    return CroissantSyntaxError(
        origin,
        "describes no dataset",
        facts={"got": got, "expected": 'an object with "@type": "sc:Dataset"'},
        remedy="name a Croissant file: croissant: croissant.json",
    )
