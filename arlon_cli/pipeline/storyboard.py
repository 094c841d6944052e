"""Storyboard files: YAML that lists shots, read node by node, so that an error can name its line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import RANGES, Shot, check_shots, frames_of, shot_problem

_MAX_BYTES = 1_000_000
_TAG = "tag:yaml.org,2002:"
_NUMBER = (("int", "float"), "number")
_WHOLE_NUMBER = (("int",), "whole number")
# what each field may be: YAML's names of its types, and ours
_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "title": (("str",), "text"),
    "prompt": (("str",), "text"),
    "frames": _WHOLE_NUMBER,
    "seconds": _NUMBER,
    "seed": _WHOLE_NUMBER,
    "steps": _WHOLE_NUMBER,
    "guidance": _NUMBER,
    "cut": (("bool",), "true or false"),
}
_DEFAULTS = ("frames", "seconds", "seed", "guidance", "steps", "cut")
_SHOT = ("prompt", *_DEFAULTS)

_Entries = dict[str, yaml.Node]


@dataclass(frozen=True)
class Storyboard:
    """Shots in order; a title, and settings of the whole video, where the file gives them."""

    title: str | None
    shots: tuple[Shot, ...]
    seed: int | None
    num_steps: int | None
    guidance_scale: float | None


def read_storyboard(path: Path, fps: int) -> Storyboard:
    """Read a storyboard file. Raises InputError that names the file, the line and the field."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"Could not read {path}: {error.strerror}.") from error
    return parse_storyboard(data, str(path), fps)


def parse_storyboard(data: bytes, name: str, fps: int) -> Storyboard:
    """The storyboard of a YAML text; `name` is what errors call it. Raises InputError.

    It holds `shots`, perhaps a `title`, and perhaps `defaults`. A shot has a `prompt`, `frames` or `seconds`, and
    perhaps `seed`, `guidance`, `steps` and `cut`; `defaults` holds what counts for shots that say nothing else.
    """
    if len(data) > _MAX_BYTES:
        raise InputError(f"{name} is no storyboard: it is larger than {_MAX_BYTES // 10**6} MB.")
    try:
        text = data.decode("utf-8-sig")
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise InputError(f"{name} is empty: there is no list `shots`.")
            return _storyboard(loader, root, fps)
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not valid YAML: it is no UTF-8.") from error
    except yaml.reader.ReaderError as error:
        where = f"{name}, line {text.count(chr(10), 0, error.position) + 1}"
        raise InputError(f"{where}: the character U+{int(error.character):04X} may not stand in YAML.") from error
    except RecursionError as error:
        raise InputError(f"{name} is no storyboard: it is nested too deeply.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = name if mark is None else f"{name}, line {mark.line + 1}"
        problem = error.problem or error.context or "not valid YAML"
        if mark is not None and _has_tab(text, mark.line):
            problem = "a tab; YAML is indented with spaces"
        if not isinstance(error, _Problem):
            problem = f"not valid YAML: {problem}"
        raise InputError(f"{where}: {' '.join(problem.split())}.") from error


class _Problem(yaml.MarkedYAMLError):
    """What is wrong with a node."""

    def __init__(self, node: yaml.Node | yaml.Event, problem: str) -> None:
        mark: Any = node.start_mark
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases, which could stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _Problem(event, f"the alias *{event.anchor} is not taken; write out what it stands for")
        return super().compose_node(parent, index)


def _storyboard(loader: _Loader, root: yaml.Node, fps: int) -> Storyboard:
    entries = _entries(root, "the storyboard", ("title", "defaults", "shots"))
    shots_node = entries.get("shots")
    if not isinstance(shots_node, yaml.SequenceNode) or not shots_node.value:
        raise _Problem(shots_node or root, "no list `shots`")
    title = _value(loader, entries["title"], "", "title") if "title" in entries else None
    defaults = _entries(entries["defaults"], "defaults", _DEFAULTS) if "defaults" in entries else {}
    if {"frames", "seconds"} <= defaults.keys():
        raise _Problem(defaults["seconds"], "defaults: give either frames or seconds")
    video = {name: _value(loader, node, "defaults: ", name) for name, node in defaults.items()}
    inherited = {name: node for name, node in defaults.items() if name in ("frames", "seconds", "cut")}
    alone = len(shots_node.value) == 1
    shots = [
        _shot(loader, node, f"shot {number}", inherited, fps, alone)
        for number, node in enumerate(shots_node.value, start=1)
    ]
    return Storyboard(title, check_shots(shots), video.get("seed"), video.get("steps"), video.get("guidance"))


def _shot(loader: _Loader, node: yaml.Node, where: str, inherited: _Entries, fps: int, alone: bool) -> Shot:
    own = _entries(node, where, _SHOT)
    if "prompt" not in own:
        raise _Problem(node, f"{where} has no prompt")
    if {"frames", "seconds"} & own.keys():
        inherited = {name: entry for name, entry in inherited.items() if name == "cut"}
    entries = inherited | own
    if ("frames" in entries) == ("seconds" in entries):
        raise _Problem(node, f"{where} needs either frames or seconds")
    values = {name: _value(loader, entry, f"{where}: ", name) for name, entry in entries.items()}
    try:
        num_frames = values["frames"] if "frames" in values else frames_of(values["seconds"], fps)
    except InputError as error:
        raise _Problem(entries["seconds"], f"{where}: {str(error).rstrip('.')}") from error
    shot = Shot(
        values["prompt"],
        num_frames,
        values.get("cut", False),
        values.get("seed"),
        values.get("steps"),
        values.get("guidance"),
    )
    if problem := shot_problem(shot, alone=alone):
        field, message = problem
        entry = entries.get(field, entries.get("seconds", node))
        raise _Problem(entry, f"{where}: {field} {message}")
    return shot


def _entries(node: yaml.Node, where: str, known: Sequence[str]) -> _Entries:
    """The entries of a mapping. Raises _Problem for another node, a field that is not known, or one given twice."""
    if not isinstance(node, yaml.MappingNode) or node.tag != f"{_TAG}map":
        raise _Problem(node, f"{where} is no mapping of fields")
    entries: _Entries = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "that is no word"
        if name not in known:
            raise _Problem(key, f"{where}: unknown field {name!r}; known are {', '.join(known[:-1])} and {known[-1]}")
        if name in entries:
            raise _Problem(key, f"{where}: {name} is given twice")
        entries[name] = value
    return entries


def _value(loader: _Loader, node: yaml.Node, where: str, name: str) -> Any:
    """The value of a field. Raises _Problem where it is of another kind or out of its range."""
    tags, kind = _KINDS[name]
    if node.tag not in [_TAG + tag for tag in tags]:
        if not isinstance(node, yaml.ScalarNode):
            raise _Problem(node, f"{where}{name} is no {kind}")
        if node.tag.removeprefix(_TAG) not in ("str", "int", "float", "bool", "null", "timestamp"):
            raise _Problem(node, f"{where}{name} has the tag {node.tag.removeprefix(_TAG)}, which is not taken")
        quotes = "; put it in quotes" if kind == "text" else ""
        raise _Problem(node, f"{where}{name} is {node.value[:40]!r}, which is no {kind}{quotes}")
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError, yaml.YAMLError) as error:  # `!!int x`, or more digits than Python reads
        raise _Problem(node, f"{where}{name} is {node.value[:40]!r}, which is no {kind}") from error
    if name in RANGES:
        low, high = RANGES[name]
        if not low <= value <= high:
            raise _Problem(node, f"{where}{name} is {value}; it lies between {low} and {high}")
    return value


def _has_tab(text: str, line: int) -> bool:
    """Whether a line, counted from 0, is indented with a tab."""
    lines = text.split("\n")
    return line < len(lines) and "\t" in re.match(r"\s*", lines[line])[0]  # type: ignore[index]
