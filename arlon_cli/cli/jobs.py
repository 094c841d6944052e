"""What a batch's source asks for: lines of prompts or of options, storyboards, and folders of these."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from arlon_cli.cli import options
from arlon_cli.cli.generate import prompt_shots
from arlon_cli.cli.render import RenderOptions, preview_of, sheet_of
from arlon_cli.errors import InputError
from arlon_cli.pipeline.shots import Shot

_STORYBOARDS = (".yaml", ".yml")
_NUMBER = (int, float)
# the options of `generate` that a line of a .jsonl may hold
_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "prompt": ((str,), "text"),
    "frames": ((int,), "a whole number"),
    "seconds": (_NUMBER, "a number"),
    "seed": ((int,), "a whole number"),
    "steps": ((int,), "a whole number"),
    "guidance": (_NUMBER, "a number"),
    "reuse": (_NUMBER, "a number"),
    "codes": ((str,), "text"),
    "image": ((str,), "text"),
    "no_ar": ((bool,), "true or false"),
    "redo": ((list,), "a list of whole numbers"),
    "preview": ((bool,), "true or false"),
    "sheet": ((bool,), "true or false"),
    "no_metadata": ((bool,), "true or false"),
    "output": ((str,), "text"),
}


@dataclass(frozen=True)
class BatchJob:
    """One video of a batch; `where` is where the batch asks for it."""

    where: str
    shots: tuple[Shot, ...]
    path: Path
    options: RenderOptions

    def files(self) -> list[Path]:
        """All that it writes."""
        files = [self.path]
        if self.options.sheet:
            files.append(sheet_of(self.path))
        if self.options.preview:
            files.append(preview_of(self.path))
        return files


@dataclass(frozen=True)
class BatchReader:
    """Makes jobs of a batch's source, with the command line's options for what jobs leave out."""

    context: typer.Context
    folder: Path
    common: RenderOptions
    frames: int | None
    seconds: float | None
    fps: int

    def read(self, source: Path) -> list[BatchJob]:
        """All jobs. Raises InputError that names the line of what is wrong, or whose files would replace another's."""
        jobs = list(self._jobs(source))
        if not jobs:
            raise InputError(f"{source} holds no jobs.")
        pictures = {job.options.image.resolve(): job.where for job in jobs if job.options.image is not None}
        seen: dict[Path, str] = {}
        for job in jobs:
            for path in job.files():
                if path in seen:
                    raise InputError(f"{job.where} and {seen[path]} would both write {path.name}; change a seed.")
                if path.resolve() in pictures:
                    raise InputError(f"{job.where} would replace the picture of {pictures[path.resolve()]}, {path}.")
                seen[path] = job.where
        return jobs

    def _jobs(self, source: Path) -> Iterator[BatchJob]:
        if source.is_dir():
            for file in sorted(path for path in source.iterdir() if path.suffix.lower() in _STORYBOARDS):
                yield self._storyboard(file)
        elif source.suffix.lower() in _STORYBOARDS:
            yield self._storyboard(source)
        elif source.suffix.lower() in (".txt", ".jsonl"):
            parse = _parse_line if source.suffix.lower() == ".jsonl" else lambda line: {"prompt": line}
            for number, line in _lines(source):
                where = f"{source}, line {number}"
                try:
                    yield self._prompt(where, parse(line))
                except InputError as error:
                    raise InputError(f"{where}: {error}") from error
        else:
            raise InputError(f"{source} is neither .txt, .jsonl, a storyboard (.yaml) nor a folder of storyboards.")

    def _prompt(self, where: str, values: dict[str, Any]) -> BatchJob:
        """The job of a line, from the options of `generate` that it gives."""
        common = self.common
        frames, seconds = values.get("frames"), values.get("seconds")
        if frames is None and seconds is None:
            frames, seconds = self.frames, self.seconds
        chosen = replace(
            common,
            seed=values.get("seed", common.seed),
            steps=values.get("steps", common.steps),
            guidance=values.get("guidance", common.guidance),
            reuse=values.get("reuse", common.reuse),
            use_ar=not values.get("no_ar", not common.use_ar),
            redo=tuple(values.get("redo", ())),
            preview=values.get("preview", common.preview),
            sheet=values.get("sheet", common.sheet),
            metadata=not values.get("no_metadata", not common.metadata),
            codes=_existing(values.get("codes")),
            image=_existing(values.get("image")),
        )
        options.check_sampling(chosen.seed, chosen.steps, chosen.guidance, chosen.reuse, dashes="")
        options.check_modes(not chosen.use_ar, chosen.preview, chosen.codes)
        if chosen.redo and min(chosen.redo) < 1:
            raise InputError(f"redo names segment {min(chosen.redo)}; the first is 1.")
        shots = tuple(prompt_shots(values["prompt"], frames, seconds, self.fps, chosen.codes))
        name = values.get("output", options.default_name(shots[0].prompt, chosen.seed))
        if not _is_name(name):
            raise InputError(f"output is {name[:60]!r}, which is no name of an .mp4 in the folder of the results.")
        return BatchJob(where, shots, self.folder / name, chosen)

    def _storyboard(self, file: Path) -> BatchJob:
        from arlon_cli.pipeline.storyboard import read_storyboard

        board = read_storyboard(file, self.fps)
        chosen = replace(
            self.common,
            seed=options.flag_or_file(self.context, "seed", board.seed) or 0,
            steps=options.flag_or_file(self.context, "steps", board.num_steps),
            guidance=options.flag_or_file(self.context, "guidance", board.guidance_scale),
        )
        name = options.default_name(board.title or file.stem, chosen.seed)
        return BatchJob(str(file), board.shots, self.folder / name, chosen)


def _is_name(name: str) -> bool:
    """Whether a name from a file is one of an .mp4 in a folder."""
    plain = Path(name).name == name and name.isprintable() and Path(name).suffix.lower() == ".mp4"
    return plain and len(os.fsencode(name)) <= 200


def _lines(source: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are neither empty nor a comment (#). Raises InputError."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Could not read {source}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is no text: it is no UTF-8.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _existing(name: str | None) -> Path | None:
    """The file of that name, seen from here as on the command line. Raises InputError where there is none."""
    if name is None:
        return None
    path = options.expanded(Path(name))
    if "\0" in name or not path.is_file():
        raise InputError(f"There is no file {name!r}.")
    return path


def _parse_line(line: str) -> dict[str, Any]:
    """The options in a line of a .jsonl. Raises InputError that names the field."""
    try:
        values = json.loads(line, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise InputError("it is not valid JSON.") from error
    if not isinstance(values, dict):
        raise InputError("it is no object with a prompt.")
    for name, value in values.items():
        if name not in _FIELDS:
            raise InputError(f"unknown field {name!r}; known are {', '.join(_FIELDS)}.")
        types, kind = _FIELDS[name]
        whole = name != "redo" or (isinstance(value, list) and all(type(number) is int for number in value))
        if type(value) not in types or not whole:
            raise InputError(f"{name} is {json.dumps(value)[:40]}, which is not {kind}.")
    if "prompt" not in values:
        raise InputError("there is no prompt.")
    return values


def _distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise InputError(f"{name} is given twice.")
        values[name] = value
    return values
