"""Owns `CoralDataModule`: what a Lightning Trainer calls, and when; never decides what a version is or reads a row."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from coralord_lightning.datamodule.arguments import (
    Transform,
    hyperparameters,
    plain_arguments,
    rows_per_rank,
    transforms_by_split,
)
from coralord_lightning.datamodule.bases import LightningDataModule
from coralord_lightning.datamodule.parts import open_part, splits_of
from coralord_lightning.datamodule.resume import help_resume
from coralord_lightning.datamodule.roles import DescriptorLike, roles_of
from coralord_lightning.datamodule.versions import (
    Resolver,
    Versions,
    agreed,
    mismatches,
    saved_versions,
    versions_to_json,
)
from coralord_lightning.dataset import read_saved_state
from coralord_lightning.errors import CoralWarning, UsageError
from coralord_lightning.stream.loader import CoralLoader, require_batches
from coralord_lightning.stream.options import LoaderOptions
from coralord_lightning.stream.ranks import are_connected
from coralord_lightning.stream.state import MARKER, saved_state
from coralord_lightning.tracking import log_version, require_key_is_free

if TYPE_CHECKING:
    from coralord_lightning.spec.statistics import FieldStatistics
    from coralord_lightning.stream.batches import Collate
    from coralord_lightning.workspace import Version

__all__ = ["CoralDataModule"]

_STATE_FORMAT = 1


class CoralDataModule(LightningDataModule):
    """The data of a run: resolved, built where stale, handed out in batches, logged and kept in the checkpoint.

    Constructing, printing and pickling it touches neither disk nor network. Batches are dict[field, Tensor]; each
    tensor is [batch, *shape of the field]. Where the last batch must be filled up so that all ranks have equally many,
    every batch of that part has `is_padding`, bool[batch].

    `descriptor`, `val`, `test`, `predict` and the descriptor of a mixture's source are each a path, a mapping
    (with `base_dir` in it, where it has one of its own), a DictConfig or a SubsetDescriptor.

    Args:
        descriptor: the path of a descriptor, or its keys as a mapping: what to train on (split `train`), and to
            validate, test and predict on (splits of those names). None where `mixture` is given: then nothing but
            `val`, `test` and `predict` say what to evaluate on.
        batch_size: rows in a batch of one rank.
        global_batch_size: rows in a step over all ranks, instead of `batch_size`; a multiple of the world size.
        eval_batch_size: rows in a batch of one rank in validation, test and prediction; default: as in training.
        shuffle: of the training rows: False keeps the stored order; True or "full" permutes all rows in each epoch;
            "block" permutes blocks of about 4 MiB and mixes 64 to 127 of them: for data larger than memory.
        seed: of everything that is drawn.
        num_workers: processes that run `transform`; gathering needs none.
        drop_last: leave out the training rows that fill no global batch, instead of filling the last one up.
        pin_memory: page-locked tensors.
        transform: called with each batch, a dict; or {"train": f, "val": g, …}.
        collate: lists of different lengths: "pad", "offsets" or "rows"; or a function of a list of rows.
        batch_as: field names; batches are tuples in that order instead of dicts.
        val: other data for validation, a descriptor too: its split `val`, else its only split.
        test: other data for testing: its split `test`, else its only split.
        predict: other data for prediction: its split `predict`, else its only split.
        mixture: {name: {weight: 0.7, descriptor: …, split: …, pin: …}, …}: training rows are drawn from these sources,
            in proportion to their weights (above 0, of any sum). `name` is the descriptor's path unless `descriptor` is
            given; `split` is `train`, else the only one, by default. `descriptor` then gives `val`, `test` and
            `predict` only.
        weights: a column; training rows are drawn by it, with replacement.
        stopping: an epoch of the mixture ends "first": before any source repeats a row; "all": when each row was seen.
        epoch_size: rows drawn in an epoch, over all ranks, with `weights` or a mixture.
        verify: "stat": shards are there with their sizes; "read": their bytes are what was built.
        lanes: runs of rows that each global batch takes equal parts of, so that a node reads only some of them.
        skip: (start, stop) of training steps to leave out, counted over the whole run from 0; a resumed run goes on
            leaving them out.
        resume_batch: "rebatch": a run may resume inside an epoch with global batches of another size; no row of the
            epoch is repeated or lost.
        checkpoint_code: not in this release yet; leave it out.
        base_dir: the folder that relative paths in a mapping start from; default: the current one.
        home: the store directory; default: CORAL_HOME, `coral.toml`, `~/.cache/coralord`.
        pin: a fingerprint, or a prefix of one: this version of `descriptor` and no other, whatever it says; or a
            checkpoint: the versions of that run, of all its data.
        update: None: the committed `coral.lock` if there is one, else "auto"; "auto" | "locked" | "offline".
        build: False: a stale or missing version raises, naming the `coral build …` to run.
    Raises:
        UsageError: an argument has a value that nothing can mean, or means nothing beside the others.
        NotYetSupportedError: an argument is set whose machinery is not in this release.
    """

    def __init__(
        self,
        descriptor: DescriptorLike | None = None,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        eval_batch_size: int | None = None,
        shuffle: bool | Literal["full", "block"] = True,
        seed: int = 0,
        num_workers: int = 0,
        drop_last: bool = False,
        pin_memory: bool = False,
        transform: Transform | Mapping[str, Transform] | None = None,
        collate: Collate | None = None,
        batch_as: Sequence[str] | None = None,
        val: DescriptorLike | None = None,
        test: DescriptorLike | None = None,
        predict: DescriptorLike | None = None,
        mixture: Mapping[str, Mapping[str, Any]] | None = None,
        weights: str | None = None,
        stopping: Literal["first", "all"] | None = None,
        epoch_size: int | None = None,
        verify: Literal["stat", "read"] = "stat",
        lanes: int = 1,
        skip: Sequence[Sequence[int]] | None = None,
        resume_batch: Literal["rebatch"] | None = None,
        checkpoint_code: bool | None = None,
        base_dir: str | os.PathLike[str] | None = None,
        home: str | os.PathLike[str] | None = None,
        pin: str | os.PathLike[str] | None = None,
        update: Literal["auto", "locked", "offline"] | None = None,
        build: bool = True,
    ) -> None:
        super().__init__()
        given = plain_arguments({name: value for name, value in locals().items() if name not in ("self", "__class__")})
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.eval_batch_size = eval_batch_size
        self._roles = roles_of(given)
        self._resolver = Resolver(roles=self._roles, home=home, update=update, verify=verify)
        self._build = build
        self._transforms = transforms_by_split(given["transform"])
        training = ("shuffle", "drop_last", "skip", "resume_batch", "weights", "epoch_size")
        everywhere = ("seed", "num_workers", "pin_memory", "batch_as", "collate", "lanes")
        self._training = {name: given[name] for name in training}
        self._everywhere = {name: given[name] for name in everywhere}
        self._require_options(unknown_world=True)
        self._prepared: Versions | None = None
        self._failure: Exception | None = None
        self._versions: Versions | None = None
        self._expected: Mapping[str, Any] = {}
        self._resume: Mapping[str, Any] | None = None
        self._train_loader: CoralLoader | None = None
        self.save_hyperparameters(hyperparameters(given), logger=False)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Make the data module of a saved run again, pinned to that run's versions; arguments are Lightning's."""
        module = super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        found = bool(module._expected)  # noqa: SLF001  # our own instance
        if not found and isinstance(checkpoint_path, str | os.PathLike):  # a class of another name saved it
            module.load_state_dict(read_saved_state(checkpoint_path) or {})
        return module

    def __repr__(self) -> str:
        known = self._versions or self._prepared
        state = "not resolved yet" if known is None else next(iter(known.values())).fingerprint[:12]
        name = next(iter(self._roles.asked.values())).descriptor
        return f"{type(self).__name__}({os.fspath(name) if isinstance(name, str | os.PathLike) else '…'!r}, {state})"

    __str__ = __repr__  # Lightning's would ask for every dataloader

    def _repr_html_(self) -> str:
        """What the run asks for, and its versions where they are resolved, in a notebook."""
        from coralord_lightning.datamodule.notebook import html_of_run

        sizes = {"batch size": self.batch_size, "global batch size": self.global_batch_size}
        return html_of_run(type(self).__name__, self._roles.asked, self._versions or self._prepared, sizes)

    @property
    def versions(self) -> dict[str, Version]:
        """The versions of this run by role: "main", "val", "test", "predict", "mixture.<name>", as far as it has them.

        Raises:
            UsageError: they are not resolved yet.
        """
        versions = self._versions or self._prepared
        if versions is None:
            raise UsageError("version", "is not resolved yet", remedy="dm.prepare_data(); dm.setup()")
        return dict(versions)

    @property
    def version(self) -> Version:
        """The version of `descriptor`; without one, that of the mixture's first source.

        Raises:
            UsageError: it is not resolved yet.
        """
        return next(iter(self.versions.values()))

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """Field -> its classes, where the descriptor encodes categories."""
        return self.version.classes

    @property
    def stats(self) -> Mapping[str, FieldStatistics]:
        """Field -> statistics over the training split of `version`: `dm.stats["image"].mean`.

        Raises:
            UsageError: nobody has counted it.
        """
        return self.version.stats("train")

    def prepare_data(self) -> None:
        """Resolve all versions and build what is stale or missing; called in one process a node.

        An error waits for `setup` where other processes run: they would hang or die without knowing why.
        """
        if self._versions is not None:
            return
        try:
            self._prepared = self._resolve(build=self._build)
        except Exception as error:
            if not self._is_distributed():
                raise
            self._failure = error

    def setup(self, stage: str | None = None) -> None:
        """Take the versions that all processes agree on, and tell the loggers.

        Raises:
            CoralError: resolving failed, on whichever rank; every rank raises it.
        """
        if self._versions is None:
            self._versions = self._agreed() if self._is_distributed() else self._prepared or self._resolve(self._build)
        if stage == "fit":
            self._resume, self._train_loader = None, None
        self._require_options()
        if self.trainer is not None:
            help_resume(self.trainer)
            require_key_is_free(self.trainer.lightning_module)
            if self.trainer.is_global_zero:
                log_version(self.version, self.trainer.loggers, self._versions)

    def train_dataloader(self) -> Any:
        """Batches to train on, of split `train` or of the mixture.

        With Lightning's `overfit_batches` they are the same few in each epoch: in stored order, of one source.

        Raises:
            SplitNotFoundError: there is no split `train`.
            UsageError: an option means nothing for these rows.
        """
        loader = self._loader("train")
        require_batches(loader, "train")
        going_on = self._live if getattr(self.trainer, "training", False) else None  # reload_dataloaders_every_n_epochs
        state = self._resume if going_on is None else going_on.state_dict()
        if state is not None:
            loader.load_state_dict(state)
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> Any:
        """Batches to validate on, in an order that no epoch changes; an empty list where there is no such split."""
        return self._loader("val")

    def test_dataloader(self) -> Any:
        """Batches to test on, in an order that no epoch changes; an empty list where there is no such split."""
        return self._loader("test")

    def predict_dataloader(self) -> Any:
        """Batches to predict on, in an order that no epoch changes; an empty list where there is no such split."""
        return self._loader("predict")

    def state_dict(self) -> dict[str, Any]:
        """Which data the run reads and where it stands in them, in plain values."""
        if self._versions is None:
            return {}
        state: dict[str, Any] = {MARKER: _STATE_FORMAT, **versions_to_json(self._versions)}
        loader = self._live or self._train_loader
        return state if loader is None else state | {"loader": loader.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the data of a saved run; the position in them counts for training only.

        Raises:
            DataVersionMismatchError: a run would go on training with other data.
        """
        if MARKER not in state_dict:
            return
        if self._versions is None:
            self._expected, self._resume = saved_versions(state_dict), state_dict.get("loader")
            return
        training = self.trainer is None or self.trainer.state.fn == "fit"
        for error in mismatches(saved_versions(state_dict), self._versions):
            if training:
                raise error
            warnings.warn(
                f"this checkpoint was trained on version {error.facts['saved']}; "
                f"it now meets version {error.facts['loaded']}",
                CoralWarning,
                stacklevel=2,
            )
        if training:
            self._resume = state_dict.get("loader")
            loader = self._live or self._train_loader
            if self._resume is not None and loader is not None:
                loader.load_state_dict(self._resume)

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Load our state from a whole checkpoint, also one that a class of another name saved."""
        state = saved_state(checkpoint)
        if state is not None and type(self).__qualname__ not in checkpoint:
            self.load_state_dict(state)

    def _resolve(self, build: bool) -> Versions:  # noqa: FBT001  # one caller's word, said by all of them
        versions = self._resolver.resolve(build=build, expected=self._expected)
        splits_of(self._roles, versions)  # a part without its split is told now, not when it is its turn
        return versions

    def _is_distributed(self) -> bool:
        return self.trainer is not None and self.trainer.world_size > 1 and are_connected()

    def _agreed(self) -> Versions:
        failure, self._failure = self._failure, None
        return agreed(self._prepared, failure, resolve=lambda: self._resolve(build=False), reopen=self._resolver.reopen)

    def _rank_and_world(self) -> tuple[int, int]:
        """Tell this process's place among those that read different rows; not every process is one."""
        kwargs = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return (0, 1) if kwargs is None else (kwargs["rank"], kwargs["num_replicas"])

    def _options(self, part: str, *, rank: int, world_size: int) -> LoaderOptions:
        size = rows_per_rank(self.batch_size, self.global_batch_size, world_size)
        # The same few batches in each epoch are what Lightning means by overfit_batches: nothing is drawn.
        training = {"shuffle": False, "drop_last": self._training["drop_last"]} if self._overfits else self._training
        return LoaderOptions(
            batch_size=size if part == "train" or self.eval_batch_size is None else self.eval_batch_size,
            rank=rank,
            world_size=world_size,
            transform=self._transforms.get(part),
            **self._everywhere,
            **(training if part == "train" else {}),
        )

    def _require_options(self, *, unknown_world: bool = False) -> None:
        """Refuse options that cannot be, in training or evaluation; all ranks do it at the same time."""
        for part in ("train", "val"):
            rank, world_size = self._rank_and_world()
            lanes = self._everywhere["lanes"]
            if unknown_world and self.global_batch_size is None and isinstance(lanes, int):
                world_size = max(lanes, 1)  # so that it may be any multiple of a batch
            self._options(part, rank=rank, world_size=world_size).require_valid()

    def _loader(self, part: str) -> Any:
        if self._versions is None:
            raise UsageError(f"{part}_dataloader", "comes after setup", remedy="dm.prepare_data(); dm.setup()")
        rank, world_size = self._rank_and_world()
        feed = open_part(part, self._roles, self._versions, verify=self._resolver.verify, as_stored=self._overfits)
        return [] if feed is None else CoralLoader(feed, self._options(part, rank=rank, world_size=world_size))

    @property
    def _overfits(self) -> bool:
        return bool(getattr(self.trainer, "overfit_batches", 0) > 0)

    @property
    def _live(self) -> CoralLoader | None:
        """The loader that the Trainer reads now; anyone may have asked for further ones."""
        used = None if self.trainer is None else self.trainer.train_dataloader
        return used if isinstance(used, CoralLoader) else None
