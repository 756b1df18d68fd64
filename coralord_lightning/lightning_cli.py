"""Owns `python -m coralord_lightning.lightning_cli`: Lightning's own command line over our data module; adds no option.

    python -m coralord_lightning.lightning_cli fit --model package.Model --data.descriptor a.yaml --data.batch_size 64

A user's own `LightningCLI(Model, CoralDataModule)` needs nothing of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coralord_lightning.errors import CoralError, UsageError

__all__ = ["main"]

_PACKAGES = ("pytorch_lightning", "lightning.pytorch")
_CONFIG = ("--config", "-c")
_MODEL = ("--model", "--model.class_path")


def main(words: Sequence[str] | None = None) -> None:
    """Run one command of Lightning's; an error of ours ends the process with its message and exit code.

    Args:
        words: the command line; None: this process's.
    """
    given = sys.argv[1:] if words is None else list(words)
    try:
        command_line = _lightning_cli(given)
        from coralord_lightning.datamodule import CoralDataModule

        command_line(datamodule_class=CoralDataModule, args=None if words is None else given)
    except CoralError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a command line says what is wrong there
        raise SystemExit(error.exit_code) from error


def _lightning_cli(words: Sequence[str]) -> Any:
    """Lightning's class for command lines, of the package that the model is of: each refuses the other's models.

    Raises:
        UsageError: what it reads command lines with is not installed.
    """
    if importlib.util.find_spec("jsonargparse") is None:
        raise UsageError("lightning_cli", "needs jsonargparse", remedy="pip install 'coralord-lightning[cli]'")
    package = next((found for name in _models(words) if (found := _package_of(name)) is not None), _PACKAGES[0])
    return importlib.import_module(f"{package}.cli").LightningCLI


def _package_of(model: str) -> str | None:
    """The Lightning that a class is of; None where nobody can tell: then the parser says what is wrong with it."""
    module, _, name = model.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError):
        return None
    bases = ((package, getattr(sys.modules.get(package), "LightningModule", None)) for package in _PACKAGES)
    return next((package for package, base in bases if base in getattr(found, "__mro__", ())), None)


def _models(words: Sequence[str]) -> Iterator[str]:
    """Class paths of models on a command line, then those in its configuration files."""
    yield from _values(words, _MODEL)
    for path in _values(words, _CONFIG):
        config = _read(Path(path))
        for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):  # fit: {model: …}
            model = part.get("model")
            model = model.get("class_path") if isinstance(model, Mapping) else model
            if isinstance(model, str):
                yield model


def _values(words: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in options:
            yield value if equals else following


def _read(path: Path) -> Mapping[str, Any]:
    """A configuration file; nothing where it is none, which the parser says better."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        if not path.is_file():  # a pipe can be read once, and the parser will
            return {}
        config = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError, RecursionError):
        return {}
    return config if isinstance(config, Mapping) else {}


if __name__ == "__main__":
    main()
