"""Owns `CoralDataModule`: what a Lightning Trainer calls, and when; never decides what a version is or reads a row."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from coralord_lightning.datamodule.arguments import (
    Transform,
    hyperparameters,
    require_supported,
    transforms_by_split,
)
from coralord_lightning.datamodule.bases import LightningDataModule
from coralord_lightning.datamodule.resume import help_resume
from coralord_lightning.dataset import read_saved_state, resolve
from coralord_lightning.errors import (
    CoralWarning,
    DataVersionMismatchError,
    ShardMissingError,
    UsageError,
    VersionNotFoundError,
)
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.loader import CoralLoader, require_batches
from coralord_lightning.stream.options import LoaderOptions
from coralord_lightning.stream.ranks import Report, agree, are_connected, tell_failure
from coralord_lightning.stream.state import MARKER, Position, saved_state
from coralord_lightning.tracking import log_version, require_key_is_free

if TYPE_CHECKING:
    from coralord_lightning.spec.statistics import FieldStatistics
    from coralord_lightning.workspace import Version

__all__ = ["CoralDataModule"]

_STATE_FORMAT = 1


class CoralDataModule(LightningDataModule):
    """The data of a run: resolved, built where stale, handed out in batches, logged and kept in the checkpoint.

    Constructing, printing and pickling it touches neither disk nor network. Batches are dict[field, Tensor].

    Args:
        descriptor: path, mapping, DictConfig or SubsetDescriptor.
        batch_size: rows in a batch of one rank.
        global_batch_size: rows in a step over all ranks, instead of `batch_size`; a multiple of the world size.
        eval_batch_size: rows in a batch of one rank in validation, test and prediction; default: as in training.
        shuffle: of the training split: False, True ("full"), or "block" (later).
        seed: of the order.
        num_workers: 0; gathering needs none.
        drop_last: leave out the training rows that fill no global batch, instead of filling the last one up.
        pin_memory: page-locked tensors.
        transform: called with each batch, a dict; or {"train": f, "val": g, …}.
        collate: later.
        batch_as: field names; batches are tuples in that order instead of dicts.
        val: later: another descriptor for validation; likewise `test` and `predict`.
        mixture: later; likewise `weights`, `stopping`, `epoch_size`, `lanes`, `skip`, `resume_batch` and
            `checkpoint_code`.
        verify: "stat": shards are there with their sizes; "read": their bytes are what was built.
        base_dir: what relative paths in a mapping are relative to.
        home: the store directory; default: CORAL_HOME, `coral.toml`, `~/.cache/coralord`.
        pin: a fingerprint, a prefix of one, or a checkpoint: this version and no other, whatever the descriptor says.
        update: None: the committed `coral.lock` if there is one, else "auto"; "auto" | "locked" | "offline".
        build: False: a stale or missing version raises, naming the `coral build …` to run.
    Raises:
        UsageError: an argument has a value that nothing can mean.
        NotYetSupportedError: an argument is set whose machinery is not in this release.
    """

    def __init__(
        self,
        descriptor: str | os.PathLike[str] | Mapping[str, Any] | SubsetDescriptor,
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
        collate: str | Callable[..., Any] | None = None,
        batch_as: Sequence[str] | None = None,
        val: str | Mapping[str, Any] | None = None,
        test: str | Mapping[str, Any] | None = None,
        predict: str | Mapping[str, Any] | None = None,
        mixture: Mapping[str, Any] | None = None,
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
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        require_supported(given)
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.eval_batch_size = eval_batch_size
        self._descriptor = descriptor
        self._transforms = transforms_by_split(transform)
        self._train = {"shuffle": shuffle, "drop_last": drop_last}
        self._loading: dict[str, Any] = {
            "seed": seed, "num_workers": num_workers, "pin_memory": pin_memory, "batch_as": batch_as
        }  # fmt: skip
        self._resolving: dict[str, Any] = {
            "home": home, "base_dir": base_dir, "update": update, "verify": verify
        }  # fmt: skip
        self._pin = pin
        self._build = build
        self._options(world_size=1, batch_size=self._batch_size(1, "train"), **self._train).require_valid()
        self._prepared: Version | None = None
        self._failure: Exception | None = None
        self._version: Version | None = None
        self._expected: Mapping[str, Any] | None = None
        self._resume: Mapping[str, Any] | None = None
        self._train_loader: CoralLoader | None = None
        self.save_hyperparameters(hyperparameters(given), logger=False)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Make the data module of a saved run again, pinned to that run's version; arguments are Lightning's."""
        module = super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        found = module._expected is not None  # noqa: SLF001  # our own instance
        if not found and isinstance(checkpoint_path, str | os.PathLike):  # a class of another name saved it
            module.load_state_dict(read_saved_state(checkpoint_path) or {})
        return module

    def __repr__(self) -> str:
        version = self._version or self._prepared
        state = "not resolved yet" if version is None else version.fingerprint[:12]
        name = self._descriptor if isinstance(self._descriptor, str | os.PathLike) else "…"
        return f"{type(self).__name__}({os.fspath(name)!r}, {state})"

    __str__ = __repr__  # Lightning's would ask for every dataloader

    @property
    def version(self) -> Version:
        """The version of this run.

        Raises:
            UsageError: it is not resolved yet.
        """
        version = self._version or self._prepared
        if version is None:
            raise UsageError("version", "is not resolved yet", remedy="dm.prepare_data(); dm.setup()")
        return version

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """Field -> its classes, where the descriptor encodes categories."""
        return self.version.classes

    @property
    def stats(self) -> Mapping[str, FieldStatistics]:
        """Field -> statistics over the training split: `dm.stats["image"].mean`.

        Raises:
            UsageError: nobody has counted it.
        """
        return self.version.stats("train")

    def prepare_data(self) -> None:
        """Resolve the version and build it if it is stale or missing; called in one process a node.

        An error waits for `setup` where other processes run: they would hang or die without knowing why.
        """
        if self._version is not None:
            return
        try:
            self._prepared = self._resolve(build=self._build)
        except Exception as error:
            if not self._is_distributed():
                raise
            self._failure = error

    def setup(self, stage: str | None = None) -> None:
        """Take the version that all processes agree on, and tell the loggers.

        Raises:
            CoralError: resolving failed, on whichever rank; every rank raises it.
        """
        if self._version is None:
            self._version = self._agreed() if self._is_distributed() else self._prepared or self._resolve(self._build)
        if stage == "fit":
            self._resume, self._train_loader = None, None
        self._batch_size(self._rank_and_world()[1], "train")
        if self.trainer is not None:
            help_resume(self.trainer)
            require_key_is_free(self.trainer.lightning_module)
            if self.trainer.is_global_zero:
                log_version(self._version, self.trainer.loggers)

    def train_dataloader(self) -> Any:
        """Batches of split `train`; an empty list where there is none."""
        # The same few batches in each epoch are what Lightning means by overfit_batches.
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        loader = self._loader("train", **self._train | ({"shuffle": False} if overfit else {}))
        if isinstance(loader, CoralLoader):
            require_batches(loader, "train")
            if self._resume is not None:
                loader.load_state_dict(self._resume)
            self._train_loader = loader
        return loader

    def val_dataloader(self) -> Any:
        """Batches of split `val` in stored order; an empty list where there is none."""
        return self._loader("val")

    def test_dataloader(self) -> Any:
        """Batches of split `test` in stored order; an empty list where there is none."""
        return self._loader("test")

    def predict_dataloader(self) -> Any:
        """Batches of split `predict` in stored order; an empty list where there is none."""
        return self._loader("predict")

    def state_dict(self) -> dict[str, Any]:
        """Which data the run reads and where it stands in them, in plain values."""
        if self._version is None:
            return {}
        state: dict[str, Any] = {MARKER: _STATE_FORMAT, "version": self._version.to_json()}
        loader = self._live_loader()
        if loader is not None:
            state["loader"] = loader.state_dict() | self._next_position(loader)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the data of a saved run; the position in them counts for training only.

        Raises:
            DataVersionMismatchError: a run would go on training with other data.
        """
        if MARKER not in state_dict:
            return
        if self._version is None:
            self._expected = state_dict["version"]
            self._resume = state_dict.get("loader")
            return
        training = self.trainer is None or self.trainer.state.fn == "fit"
        same = state_dict["version"]["content_digest"] == self._version.content_digest
        if training and not same:
            raise _mismatch(state_dict["version"], self._version)
        if not same:
            warnings.warn(
                f"this checkpoint was trained on version {state_dict['version']['fingerprint']}; "
                f"it now meets version {self._version.fingerprint}",
                CoralWarning,
                stacklevel=2,
            )
        if training:
            self._resume = state_dict.get("loader")
            if self._resume is not None and self._train_loader is not None:
                self._train_loader.load_state_dict(self._resume)

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Load our state from a whole checkpoint, also one that a class of another name saved."""
        state = saved_state(checkpoint)
        if state is not None and type(self).__qualname__ not in checkpoint:
            self.load_state_dict(state)

    def _resolve(self, build: bool) -> Version:  # noqa: FBT001  # one caller's word, said by all of them
        ask = {**self._resolving, "build": build}
        if self._pin is not None:
            return resolve(self._descriptor, pin=self._pin, **ask)
        if self._expected is None:
            return resolve(self._descriptor, pin=None, **ask)
        try:
            found = resolve(self._descriptor, pin=self._expected["fingerprint"], **ask)
            return replace(found, name=self._expected["name"])
        except (VersionNotFoundError, ShardMissingError):
            version = resolve(self._descriptor, pin=None, **ask)
            if version.content_digest != self._expected["content_digest"]:
                raise _mismatch(self._expected, version) from None
            return version

    def _is_distributed(self) -> bool:
        return self.trainer is not None and self.trainer.world_size > 1 and are_connected()

    def _agreed(self) -> Version:
        """The version of the ranks that prepared one, opened here; every rank raises what any rank raised."""
        failure, self._failure = self._failure, None
        prepared = agree(_report(self._prepared, failure))
        version: Version | None = None
        try:
            version = self._prepared or (
                self._resolve(build=False)
                if prepared is None
                else replace(
                    resolve(self._descriptor, pin=prepared.fingerprint, build=False, **self._resolving),
                    name=prepared.name,
                )
            )
        except Exception as error:  # whatever it is, the other ranks wait to hear of it
            agree(_report(None, error))
            raise
        agree(_report(version, None))
        return version

    def _rank_and_world(self) -> tuple[int, int]:
        """Tell this process's place among those that read different rows; not every process is one."""
        kwargs = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return (0, 1) if kwargs is None else (kwargs["rank"], kwargs["num_replicas"])

    def _batch_size(self, world_size: int, split: str) -> int:
        if split != "train" and self.eval_batch_size is not None:
            return self.eval_batch_size
        if (self.batch_size is None) == (self.global_batch_size is None):
            raise UsageError(
                "batch_size",
                "give either batch_size (rows of one rank) or global_batch_size (rows of all ranks)",
                facts={"got": f"batch_size={self.batch_size}, global_batch_size={self.global_batch_size}"},
                remedy="batch_size=256",
            )
        if self.batch_size is not None:
            return self.batch_size
        share, rest = divmod(self.global_batch_size or 0, world_size)
        if rest:
            raise UsageError(
                "global_batch_size",
                "is no multiple of the number of processes",
                facts={"got": self.global_batch_size, "processes": world_size},
                remedy=f"global_batch_size={max(share, 1) * world_size}",
            )
        return share

    def _options(self, **changes: Any) -> LoaderOptions:
        return LoaderOptions(**{**self._loading, **changes})

    def _loader(self, split: str, **changes: Any) -> Any:
        if self._version is None:
            raise UsageError(f"{split}_dataloader", "comes after setup", remedy="dm.prepare_data(); dm.setup()")
        if split not in self._version.splits:
            return []
        rank, world_size = self._rank_and_world()
        options = self._options(
            batch_size=self._batch_size(world_size, split),
            rank=rank,
            world_size=world_size,
            transform=self._transforms.get(split),
            **changes,
        )
        verify = self._resolving["verify"]
        return CoralLoader(split_feed(self._version.manifest, self._version.home, split, verify), options)

    def _live_loader(self) -> CoralLoader | None:
        """The loader that the Trainer reads; anyone may have asked for further ones."""
        used = None if self.trainer is None else self.trainer.train_dataloader
        return used if isinstance(used, CoralLoader) else self._train_loader

    def _next_position(self, loader: CoralLoader) -> dict[str, int]:
        """Where a resumed run goes on: `limit_train_batches` ends an epoch before the loader does."""
        position = loader.position
        if self.trainer is not None:
            limit = self.trainer.num_training_batches
            if position.global_samples >= limit * loader.layout.global_batch > 0:
                position = Position(epoch=position.epoch + 1)
        return {"epoch": position.epoch, "global_samples": position.global_samples}


def _report(version: Version | None, error: Exception | None) -> Report:
    if error is not None:
        return Report(failure=tell_failure(error))
    return Report() if version is None else Report(fingerprint=version.fingerprint, name=version.name)


def _mismatch(saved: Mapping[str, Any], live: Version) -> DataVersionMismatchError:
    return DataVersionMismatchError(
        "checkpoint",
        "was trained on other data than the descriptor stands for now",
        facts={"saved": saved["fingerprint"], "loaded": live.fingerprint},
        remedy=f'CoralDataModule(…, pin="{saved["fingerprint"]}")',
    )
