"""The errors for files that a distribution means and that are not there. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from coralord_lightning.errors import DescriptorValueError, SourceMissingError, UnsupportedCroissantError, nearest
from coralord_lightning.sources.trees import Tree
from coralord_lightning.spec.selection import FileObject, FileSet

__all__ = ["first", "no_listing", "no_member", "no_repository", "not_mapped"]

_SHOWN = 200


def first(paths: Iterable[str]) -> list[str]:
    """Some paths of what may be very many."""
    return list(islice(paths, _SHOWN))


def no_member(node: FileObject, path: str, trees: Iterable[Tree]) -> SourceMissingError:
    """The error for a file that is not in what contains it; names the nearest that is."""
    there = [name for tree in trees for name in first(tree.some_paths(path.rpartition("/")[0]))]
    same = [name for name in there if name.rpartition("/")[2] == path.rpartition("/")[2]]
    near = same[0] if same else nearest(path, there)
    shown = ", ".join(there[:8]) + (" and more" if len(there) > 8 else "")
    return SourceMissingError(
        node.id,
        "is not in what contains it",
        facts={"expected": path, "containedIn": ", ".join(tree.name for tree in trees), "there": shown or "nothing"},
        remedy=f'"contentUrl": "{near}"' if near else "correct its contentUrl, or what it is containedIn",
    )


def not_mapped(node: FileObject | FileSet, mapped: Path) -> SourceMissingError:
    """The error for a mapping to a path where nothing is."""
    names = [path.name for path in mapped.parent.iterdir()] if mapped.parent.is_dir() else []
    near = nearest(mapped.name, names)
    return SourceMissingError(
        node.id,
        "is mapped to what is not there",
        facts={"expected": mapped},
        remedy=f"mapping: {{{node.id}: {mapped.parent / (near or '…')}}}",
    )


def no_repository(node: FileObject | FileSet, mapped: Path | None) -> UnsupportedCroissantError | DescriptorValueError:
    """The error for a repository that lies in something, or is mapped to a file."""
    if mapped is not None:
        return DescriptorValueError(
            "mapping",
            f"'{node.id}' is a repository, and must be mapped to a folder",
            facts={"got": mapped},
            remedy=f"mapping: {{{node.id}: {mapped.parent}}}",
        )
    return UnsupportedCroissantError(
        node.id,
        "is a repository inside something else",
        remedy=f"clone it, and name the folder: `mapping: {{{node.id}: folder}}`",
    )


def no_listing(node: FileSet) -> UnsupportedCroissantError:
    """The error for a set of files beside a description that was fetched."""
    return UnsupportedCroissantError(
        node.id,
        "a FileSet in a remote Croissant file cannot be listed: http knows no folders",
        facts={"includes": ", ".join(node.includes)},
        remedy="name the files as FileObjects, or download the Croissant file and its data into one folder",
    )
