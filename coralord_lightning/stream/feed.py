"""Owns what rows a loader reads: one split, or the splits of a mixture as one run of rows; never in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import SplitNotFoundError, UsageError, nearest
from coralord_lightning.spec.columns import arrow_schema
from coralord_lightning.stream.gather import require_fields
from coralord_lightning.stream.mixing import MAX_SOURCES, Stopping, cumulate_weights, epoch_of_mixture
from coralord_lightning.stream.recipe import SourceFacts
from coralord_lightning.stream.shards import ShardMaps, Verify

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coralord_lightning.spec.manifest import Manifest

__all__ = ["Feed", "mixed_feed", "require_split", "require_weight", "split_feed"]


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Rows to read, numbered through.

    Args:
        sources: what they are of, in the order of the numbers.
        maps: their shards.
        fields: columns; of a mixture those of its first source.
        split: for messages.
        stopping: when an epoch of a mixture ends.
        classes: field -> what its codes stand for, where categories are encoded.
    """

    sources: tuple[SourceFacts, ...]
    maps: ShardMaps
    fields: tuple[str, ...]
    split: str
    stopping: Stopping = "first"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_mixture(self) -> bool:
        """Whether several sources are drawn from by weight."""
        return self.sources[0].weight is not None

    def positions(self, *, epoch_size: int | None, weights: str | None) -> int:
        """Samples in an epoch.

        Raises:
            UsageError: `epoch_size` without anything that draws, or out of range.
        """
        if epoch_size is not None and not (self.is_mixture or weights):
            raise UsageError(
                "epoch_size",
                "counts the rows that a mixture or weights draw, and neither is given",
                facts={"got": epoch_size},
                remedy="limit_train_batches=… in the Trainer, or mixture=… or weights=… here",
            )
        if epoch_size is not None:
            return epoch_size
        if self.is_mixture:
            shares = [Fraction(source.weight or 0) for source in self.sources]
            return epoch_of_mixture([source.num_rows for source in self.sources], shares, self.stopping)
        return self.maps.num_rows

    def cumulate(self, column: str) -> npt.NDArray[np.float64]:
        """Sums of a column of weights, float64[rows].

        Raises:
            UsageError: the column is no number, has nulls, or no row can be drawn by it.
        """
        import numpy as np
        import pyarrow as pa

        require_fields([column], self.fields, subject="weights")
        kind = self.maps.schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise UsageError(
                f"weights={column!r}", "is no number", facts={"type": kind}, remedy="name a column of numbers"
            )
        parts = [batch.column(column).cast(pa.float64()) for batch in self.maps.batches()]
        values = [part.to_numpy(zero_copy_only=False) for part in parts]  # a null becomes NaN, which is refused
        return cumulate_weights(np.concatenate([*values, np.empty(0)]), column=column)


def split_feed(manifest: Manifest, home: Path, split: str, verify: Verify = "stat") -> Feed:
    """The rows of one split; maps nothing yet.

    Raises:
        SplitNotFoundError: the version has no such split.
    """
    require_split(split, manifest)
    maps = ShardMaps(home, manifest.shards(split), arrow_schema(manifest.columns), verify=verify)
    facts = SourceFacts(
        fingerprint=manifest.fingerprint,
        content_digest=manifest.content_digest,
        num_rows=maps.num_rows,
        split=split,
    )
    fields = tuple(column.name for column in manifest.columns)
    return Feed(sources=(facts,), maps=maps, fields=fields, split=split, classes=manifest.classes)


def mixed_feed(feeds: Mapping[str, Feed], weights: Mapping[str, float], stopping: Stopping = "first") -> Feed:
    """The rows of several splits, to be drawn by weight.

    Args:
        feeds: source name -> its rows.
        weights: source name -> how often it is drawn, relative to the others.
    Raises:
        UsageError: a weight is not above 0, a source has no rows, there are too many, or the same code stands for other
            classes in them.
    """
    if not 1 <= len(feeds) <= MAX_SOURCES:
        raise UsageError("mixture", f"has {len(feeds)} sources", remedy=f"name 1 to {MAX_SOURCES} sources")
    exact = {name: require_weight(name, weights[name]) for name in feeds}
    whole = sum(exact.values())
    for name, feed in feeds.items():
        if not feed.maps.num_rows:
            raise UsageError(f"mixture.{name}", f"has no rows in split '{feed.split}'", remedy=f"leave '{name}' out")
    sources = tuple(
        replace(feed.sources[0], name=name, weight=str(exact[name] / whole)) for name, feed in feeds.items()
    )
    first = next(iter(feeds.values()))
    for name, feed in feeds.items():
        _require_same_classes(first, name, feed)
    maps = ShardMaps.joined([feed.maps for feed in feeds.values()])
    return Feed(
        sources=sources, maps=maps, fields=first.fields, split=first.split, stopping=stopping, classes=first.classes
    )


def _require_same_classes(first: Feed, name: str, feed: Feed) -> None:
    for column, known in first.classes.items():
        if column in feed.fields and feed.classes.get(column) != known:
            raise UsageError(
                f"mixture.{name}",
                f"encodes '{column}' with other classes, so that a code would mean two things",
                facts={"first source": ", ".join(known), name: ", ".join(feed.classes.get(column, ()))},
                remedy=f"fields: {{{column}: {{encode: {{category: [{', '.join(known)}]}}}}}}     # in both",
            )


def require_weight(name: str, weight: Any) -> Fraction:
    """The weight of a mixture's source, exactly.

    Raises:
        UsageError: it is no number above 0.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise UsageError(
            f"mixture.{name}.weight", "must be a number above 0", facts={"got": repr(weight)}, remedy="weight: 1.0"
        )
    return Fraction(str(weight))  # 0.7 as it is written


def require_split(split: str, manifest: Manifest) -> None:
    """Refuse a split that the version has not.

    Raises:
        SplitNotFoundError: with the nearest split's name.
    """
    if split in manifest.splits:
        return
    near = nearest(split, manifest.splits)
    raise SplitNotFoundError(
        split,
        "is no split of this version",
        facts={"splits": ", ".join(manifest.splits)},
        remedy=f"write '{near}'" if near else "name one of these splits, or add it under `splits:`",
    )
