"""What a Dockerfile builds on: every image that it names, as Docker would read it, and where. Pure; builds nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coralord_lightning.builder.runners.dockerfile_lines import Instruction, Word, expand, instructions, problem
from coralord_lightning.errors import nearest

__all__ = ["BASE_IMAGE", "BaseImage", "Dockerfile", "read_dockerfile"]

BASE_IMAGE = "BASE_IMAGE"
"""The argument whose value a site may set for FROM lines: `config.base_image`."""

_PREDEFINED = frozenset(
    name
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (proxy, proxy.lower())
)
_MOUNT_FROM = re.compile(r"(?:(?<==)|(?<=,)|(?<=\"))from=(?P<image>[^,\"]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """One place where a Dockerfile names an image.

    Args:
        name: as the Dockerfile says it, arguments filled in; what identity and lock call it.
        image: what it stands for here; another than `name` where the site sets its own base image.
        line: where, from 1.
        start, end: where in the text.
    """

    name: str
    image: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A Dockerfile, read for one target and one platform.

    Args:
        bases: the images it names, in order; those of stages behind the target are left out.
        steps: keyword and line of each instruction, in the order that an engine counts.
        fixed: places in the text that get another text whatever the bases are.
    """

    text: str
    bases: tuple[BaseImage, ...]
    steps: tuple[tuple[str, int], ...]
    fixed: tuple[tuple[int, int, str], ...] = ()

    def pinned(self, images: Mapping[str, str]) -> str:
        """The text with every image that it names replaced, line for line.

        Args:
            images: by `BaseImage.name`, what an engine is to take.
        """
        text = self.text
        places = [*self.fixed, *((base.start, base.end, images[base.name]) for base in self.bases)]
        for start, end, new in sorted(places, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def line_of_step(self, number: int, keyword: str) -> int | None:
        """The line of the step that an engine names by number and keyword; None where the two do not fit."""
        if 0 < number <= len(self.steps) and self.steps[number - 1][0] == keyword.upper():
            return self.steps[number - 1][1]
        return None


def read_dockerfile(
    text: str,
    *,
    origin: str,
    platform: str,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    base_image: str | None = None,
) -> Dockerfile:
    """Find the images that a Dockerfile names.

    Args:
        origin: its path, for messages.
        platform: the engine's, `linux/amd64`; also what `$TARGETPLATFORM`, `$BUILDARCH` and their like say.
        build_args: as the descriptor gives them.
        target: name or number of the stage to stop at.
        base_image: the site's value for `ARG BASE_IMAGE`, where build_args have none.

    Raises:
        DescriptorValueError: it cannot be read, or names an image in a way that cannot be pinned; tells the line.
    """
    reader = _Reader(origin=origin, platform=platform, build_args=build_args or {}, base_image=base_image)
    for instruction in instructions(text, origin=origin):
        reader.take(instruction)
    reader.require_arguments()
    last = reader.last_stage(target)
    bases = tuple(base for stage, base in reader.bases if stage <= last)
    fixed = tuple(place for stage, place in reader.fixed if stage <= last)
    return Dockerfile(text=text, bases=bases, steps=tuple(reader.steps), fixed=fixed)


class _Reader:
    """Goes through the instructions once, knowing the arguments and stages so far."""

    def __init__(self, *, origin: str, platform: str, build_args: Mapping[str, str], base_image: str | None) -> None:
        self.bases: list[tuple[int, BaseImage]] = []
        self.fixed: list[tuple[int, tuple[int, int, str]]] = []
        self.steps: list[tuple[str, int]] = []
        self._origin = origin
        self._platform = platform
        self._build_args = build_args
        self._site = {BASE_IMAGE: base_image} if base_image is not None and BASE_IMAGE not in build_args else {}
        self._arguments = _automatic(platform)
        self._here = dict(self._arguments)
        self._declared: set[str] = set()
        self._stages: list[str] = []

    def take(self, instruction: Instruction) -> None:
        """Read one instruction."""
        self.steps.append((instruction.keyword, instruction.line))
        if instruction.keyword == "ARG":
            self._take_argument(instruction)
        elif instruction.keyword == "FROM":
            self._take_from(instruction)
        elif not self._stages:
            raise problem(self._origin, instruction.line, f"{instruction.keyword} stands before the first FROM")
        else:
            for word in _named_sources(instruction):
                self._take_source(word, instruction.line)

    def require_arguments(self) -> None:
        """Refuse build args that the Dockerfile does not know: mostly misspelt ones."""
        for name in self._build_args:
            if name not in self._declared | _PREDEFINED:
                near = nearest(name, self._declared)
                raise problem(
                    "environment.build_args",
                    None,
                    f"the Dockerfile has no argument '{name}'",
                    facts={"file": self._origin, "arguments": ", ".join(sorted(self._declared)) or "none"},
                    remedy=f"build_args: {{{near}: …}}" if near else f"write ARG {name} into {self._origin}",
                )

    def last_stage(self, target: str | None) -> int:
        """The number of the stage to stop at."""
        if not self._stages:
            raise problem(self._origin, None, "has no FROM")
        if target is None:
            return len(self._stages) - 1
        found = self._stage(target, self._stages)
        if found is None:
            known = [name for name in self._stages if name]
            near = nearest(target, known)
            raise problem(
                "environment.target",
                None,
                f"the Dockerfile has no stage '{target}'",
                facts={"file": self._origin, "stages": ", ".join(known) or f"{len(self._stages)}, without names"},
                remedy=f"target: {near}" if near else "take out target, to build the last stage",
            )
        return found

    def _take_argument(self, instruction: Instruction) -> None:
        for word in instruction.words:
            name, given, default = word.text.partition("=")
            self._declared.add(name)
            if self._stages:  # a stage's own; FROM lines do not see it
                continue
            for values, overrides in ((self._arguments, {}), (self._here, self._site)):
                if name in self._build_args:
                    values[name] = self._build_args[name]
                elif name in overrides:
                    values[name] = overrides[name]
                elif given:
                    values[name] = self._expand(default, values, instruction)
                else:
                    values.setdefault(name, "")

    def _take_from(self, instruction: Instruction) -> None:
        number = len(self._stages)
        flags, words = instruction.flags, list(instruction.words)
        alias = ""
        if len(words) == 3 and words[1].text.upper() == "AS":
            alias = words.pop().text.lower()
            words.pop()
        if len(words) != 1 or any(not flag.text.startswith("--platform=") for flag in flags):
            raise problem(
                self._origin, instruction.line, "cannot be read", remedy="FROM [--platform=…] IMAGE [AS NAME]"
            )
        for flag in flags:
            self._take_platform(number, flag, instruction)
        (word,) = words
        image = self._expand(word.text, self._here, instruction)
        if not image:
            raise problem(
                self._origin,
                instruction.line,
                f"FROM {word.text} names no image: the argument is empty",
                remedy="environment: {dockerfile: …, build_args: {NAME: IMAGE}}, or give ARG a default",
            )
        if image.lower() != "scratch" and image.lower() not in self._stages:
            name = self._expand(word.text, self._arguments, instruction) or word.text
            self._add(number, word, name=name, image=image, line=instruction.line)
        self._stages.append(alias)

    def _take_platform(self, number: int, flag: Word, instruction: Instruction) -> None:
        wanted = self._expand(flag.text.partition("=")[2], self._here, instruction)
        os, _, architecture = wanted.rpartition("/") if wanted.count("/") < 2 else wanted.partition("/")
        if (os or "linux", architecture.partition("/")[0]) != tuple(self._platform.split("/")[:2]):
            raise problem(
                self._origin,
                instruction.line,
                f"the stage is for '{wanted}', and this engine makes {self._platform}",
                remedy="take out --platform, or build the image elsewhere and name it in environment.image",
            )
        start = flag.places[len("--platform=")] if len(flag.places) > len("--platform=") else flag.end
        self.fixed.append((number, (start, flag.end, self._platform)))

    def _take_source(self, word: Word, line: int) -> None:
        """What COPY --from and RUN --mount=from= name: a stage before this one, or an image."""
        if "$" in word.text:
            raise problem(
                self._origin,
                line,
                f"from={word.text} takes no variables",
                remedy=f"FROM {word.text} AS source   # above; and from=source here",
            )
        current = len(self._stages) - 1
        if self._stage(word.text, self._stages[:current]) is not None:
            return
        if word.text.isdecimal():
            raise problem(self._origin, line, f"from={word.text} names no stage before this one")
        if word.text.lower() != "scratch":
            self._add(current, word, name=word.text, image=word.text, line=line)

    def _add(self, stage: int, word: Word, *, name: str, image: str, line: int) -> None:
        self.bases.append((stage, BaseImage(name=name, image=image, line=line, start=word.start, end=word.end)))

    def _stage(self, name: str, stages: list[str]) -> int | None:
        if name.lower() in stages and name:
            return len(stages) - 1 - stages[::-1].index(name.lower())
        return int(name) if name.isdecimal() and int(name) < len(stages) else None

    def _expand(self, text: str, values: Mapping[str, str], instruction: Instruction) -> str:
        try:
            return expand(text, values, escape=instruction.escape)
        except ValueError as error:
            raise problem(self._origin, instruction.line, str(error)) from error


def _named_sources(instruction: Instruction) -> Iterator[Word]:
    """The values of `--from=` of a COPY, and of `from=` in the mounts of a RUN."""
    for flag in instruction.flags:
        if instruction.keyword == "COPY" and flag.text.startswith("--from="):
            start, end = len("--from="), len(flag.text)
            quoted = end - start > 2 and flag.text[start] == flag.text[-1] and flag.text[start] in "\"'"
            yield flag.part(start + 1, end - 1) if quoted else flag.part(start, end)
        elif instruction.keyword == "RUN" and flag.text.startswith("--mount="):
            for found in _MOUNT_FROM.finditer(flag.text):
                yield flag.part(*found.span("image"))


def _automatic(platform: str) -> dict[str, str]:
    """The arguments that Docker sets by itself for FROM lines."""
    os, architecture, variant = [*platform.split("/"), "", ""][:3]
    parts = {"PLATFORM": platform, "OS": os, "ARCH": architecture, "VARIANT": variant}
    return {side + key: value for side in ("TARGET", "BUILD") for key, value in parts.items()}
