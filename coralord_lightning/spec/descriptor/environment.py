"""The descriptor's `environment`: where a pipeline runs, and within which limits. Looks at no file and no engine."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from coralord_lightning.spec.descriptor.options import Options
from coralord_lightning.spec.descriptor.units import parse_duration, parse_size

__all__ = ["EnvironmentOptions"]

_ARGUMENT = re.compile(r"[A-Za-z_]\w*", re.ASCII)

Bytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0, le=2**60)]
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=366 * 86_400)]


class EnvironmentOptions(Options):
    """Where the pipeline runs.

    Args:
        local: this interpreter, no container.
        image: an OCI image.
        dockerfile: the path of one that is built, from the descriptor's folder.
        context: the folder whose files its build is sent; default: the Dockerfile's own.
        build_args: values of its `ARG`s.
        target: the stage to stop at; default: the last.
        memory: bytes.
        timeout: seconds.
        output: bytes that a pipeline may have in its output directory; default: all but a reserve of the disk.
    """

    local: bool = False
    image: str | None = None
    dockerfile: str | None = None
    context: str | None = None
    build_args: dict[str, str] = Field(default_factory=dict)
    target: str | None = None
    memory: Bytes | None = None
    cpus: float | None = Field(default=None, ge=0.01, allow_inf_nan=False)  # an engine takes 0 for no limit
    timeout: Seconds | None = None
    output: Bytes | None = None
    network: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_user(cls, value: Any) -> Any:
        if value == "local":
            return {"local": True}
        if isinstance(value, str):
            message = f"is {value!r}; the one word it may be is local"
            raise ValueError(message)
        return value

    @field_validator("dockerfile", "context")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value or "://" in value):
            message = f"is {value!r}, which is no path on this machine"
            raise ValueError(message)
        return value

    @field_validator("build_args", mode="before")
    @classmethod
    def _none_is_nothing(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("build_args")
    @classmethod
    def _check_arguments(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if _ARGUMENT.fullmatch(name) is None or "\0" in text:
                message = f"has {name!r}, which is no argument of a Dockerfile"
                raise ValueError(message)
        return value

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.-]+", value):
            message = f"is {value!r}, which is no name of a stage"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum((self.local, self.image is not None, self.dockerfile is not None)) > 1:
            message = "says more than one of local, image and dockerfile"
            raise ValueError(message)
        for name in ("context", "build_args", "target"):
            if getattr(self, name) and self.dockerfile is None:
                message = f"says {name} and no dockerfile"
                raise ValueError(message)
        return self
