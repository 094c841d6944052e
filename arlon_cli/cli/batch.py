"""`arlon batch`: many videos, with the models loaded once."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Console, Interrupted, print_line, print_result
from arlon_cli.cli.engine import open_pipeline, wanted_config
from arlon_cli.cli.generate import Frames, Seconds, prompt_shots
from arlon_cli.cli.render import RenderOptions, is_as_told, preview_of, render_video, sheet_of, work_of
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.pipeline.shots import Shot

if TYPE_CHECKING:
    from arlon_cli.pipeline.pipeline import Pipeline

RESULTS = "results.jsonl"
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
class Job:
    """One video of a batch; `where` is where the batch asks for it."""

    where: str
    shots: tuple[Shot, ...]
    path: Path
    options: RenderOptions


def batch(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="A .txt with a prompt a line, a .jsonl with a job a line (options of `generate`; its files are looked "
            "up from here), a storyboard, or a folder of storyboards."
        ),
    ],
    frames: Frames = None,
    seconds: Seconds = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    reuse: options.Reuse = None,
    no_ar: options.NoAR = False,
    size: options.Size = None,
    fps: options.Fps = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", envvar="ARLON_OUTPUT", help="Folder of the results.  [default: SOURCE-videos, here]"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that were made otherwise.")] = False,
    skip_existing: options.SkipExisting = False,
    preview: options.Preview = False,
    sheet: options.Sheet = False,
    model: options.Model = "diorama",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    offload: options.Offload = False,
    compile_parts: options.Compile = False,
    no_metadata: options.NoMetadata = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line instead of paths.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Render many videos. Run again, it does only what is missing; `results.jsonl` records what became of each job.

    A job's own values win over the options given here. The whole file is checked before anything is rendered.
    """
    from arlon_cli.storage.weights import find_weights

    options.check_sampling(seed, steps, guidance, reuse)
    options.check_modes(no_ar, preview)
    if overwrite and skip_existing:
        raise InputError("Give either --overwrite or --skip-existing.")
    checkpoint = find_weights(model)
    config = wanted_config(checkpoint, size, fps)
    folder = Path(f"{source.resolve().stem}-videos") if output is None else options.expanded(output)
    common = RenderOptions(
        seed=seed or 0,
        steps=steps,
        guidance=guidance,
        reuse=reuse,
        use_ar=not no_ar,
        redo=(),
        preview=preview,
        sheet=sheet,
        metadata=not no_metadata,
        overwrite=overwrite,
    )
    reader = _Reader(context, folder, common, frames, seconds, config.fps)
    jobs = reader.read(source)
    verbosity = verbose - quiet
    try:
        with Console(verbosity) as console:
            pipeline = open_pipeline(
                checkpoint, device, dtype, console, config=config, offload=offload, compile_parts=compile_parts
            )
            failed = _render_all(pipeline, jobs, folder, console, as_json, skip_existing)
    except KeyboardInterrupt as error:
        raise Interrupted("Interrupted. The same command goes on where it stopped: what is done is kept.") from error
    if failed:
        raise ArlonError(f"{failed} of {len(jobs)} jobs failed; {folder / RESULTS} says why. Run again to retry them.")
    if verbosity >= 0:
        results = folder / RESULTS
        print_line(f"{len(jobs)} jobs done{f'; see {results}' if results.exists() else ''}")


def _render_all(
    pipeline: "Pipeline", jobs: list[Job], folder: Path, console: Console, as_json: bool, skip_existing: bool
) -> int:
    """Render the jobs whose videos are missing; returns how many failed."""
    made = [job.path.exists() and (skip_existing or _is_made(pipeline, job)) for job in jobs]
    done = [there and (skip_existing or not _lacks(pipeline, job)) for job, there in zip(jobs, made, strict=True)]
    missing = len(jobs) - sum(done)
    if missing:
        prompts = [shot.prompt for job, there in zip(jobs, done, strict=True) if not there for shot in job.shots]
        pipeline.check(any(job.options.use_ar for job in jobs))
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be the folder of the results: {error.strerror}.") from error
        pipeline.encode_prompts(prompts)
    failed = number = 0
    for job, there, known in zip(jobs, done, made, strict=True):
        if not there and not known and job.path.exists():  # by another process that works here
            known = _is_made(pipeline, job)
            there = known and not _lacks(pipeline, job)
        if there:
            print_result(job.path, {"job": job.where, "skipped": True}, as_json)
            continue
        number += 1
        console.begin(f"Job {number} of {missing}: ")
        about = {"job": job.where, "path": str(job.path)}
        try:
            if job.path.exists() and not (known or job.options.overwrite):
                raise InputError(f"{job.path} exists already and was made otherwise; give --overwrite to replace it.")
            result = render_video(pipeline, job.shots, job.path, job.options, console, again=known)
        except Exception as error:
            if not known and job.path.exists() and _is_made(pipeline, job):  # another process was faster
                print_result(job.path, {"job": job.where, "skipped": True}, as_json)
                continue
            failed += 1
            known = isinstance(error, ArlonError)
            reason = str(error) if known else f"Unexpected {type(error).__name__}: {error}"
            console.warn(f"{job.where} failed: {reason}")
            _record(folder, about | {"status": "failed", "error": reason})
        else:
            _record(folder, about | {"status": "done"} | result)
            print_result(job.path, {"job": job.where} | result, as_json)
    return failed


def _is_made(pipeline: "Pipeline", job: Job) -> bool:
    """Whether the file that is there is what the job would make, as far as it tells."""
    try:
        return is_as_told(job.path, work_of(pipeline, job.shots, job.options).made, job.options.metadata)
    except InputError:  # the job's own to report
        return False


def _lacks(pipeline: "Pipeline", job: Job) -> bool:
    """Whether a sheet or a preview that the job is to make beside its video is missing, or of another one."""
    sheet, preview = sheet_of(job.path), preview_of(job.path)
    if job.options.sheet and not (sheet.exists() and sheet.stat().st_mtime >= job.path.stat().st_mtime):
        return True
    if not job.options.preview:
        return False
    about = replace(work_of(pipeline, job.shots, job.options).made, preview=True)
    return not (preview.exists() and is_as_told(preview, about, job.options.metadata))


def _record(folder: Path, result: dict[str, Any]) -> None:
    """Add a line to the results. Raises ArlonError where that fails."""
    path = folder / RESULTS
    try:
        with path.open("a+b") as file:
            file.seek(max(0, file.seek(0, 2) - 1))
            cut_short = file.read(1) not in (b"", b"\n")  # by a kill
            line = json.dumps(result, ensure_ascii=False) + "\n"
            file.write(b"\n" * cut_short + line.encode(errors="backslashreplace"))
    except OSError as error:
        raise ArlonError(f"Could not write {path}: {error.strerror}.") from error


@dataclass(frozen=True)
class _Reader:
    """Makes jobs of a batch's source, with the command line's options for what jobs leave out."""

    context: typer.Context
    folder: Path
    common: RenderOptions
    frames: int | None
    seconds: float | None
    fps: int

    def read(self, source: Path) -> list[Job]:
        """All jobs. Raises InputError that names the line of what is wrong, or two jobs of one name."""
        jobs = list(self._jobs(source))
        if not jobs:
            raise InputError(f"{source} holds no jobs.")
        seen: dict[Path, str] = {}
        for job in jobs:
            if job.path in seen:
                raise InputError(f"{job.where} and {seen[job.path]} would both be {job.path.name}; change a seed.")
            seen[job.path] = job.where
        return jobs

    def _jobs(self, source: Path) -> Iterator[Job]:
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

    def _prompt(self, where: str, values: dict[str, Any]) -> Job:
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
        shots = tuple(prompt_shots(values["prompt"], frames, seconds, self.fps, chosen.codes))
        name = values.get("output", options.default_name(shots[0].prompt, chosen.seed))
        if not _is_name(name):
            raise InputError(f"output is {name[:60]!r}, which is no name of an .mp4 in the folder of the results.")
        return Job(where, shots, self.folder / name, chosen)

    def _storyboard(self, file: Path) -> Job:
        from arlon_cli.pipeline.storyboard import read_storyboard

        board = read_storyboard(file, self.fps)
        chosen = replace(
            self.common,
            seed=options.flag_or_file(self.context, "seed", board.seed) or 0,
            steps=options.flag_or_file(self.context, "steps", board.num_steps),
            guidance=options.flag_or_file(self.context, "guidance", board.guidance_scale),
        )
        name = options.default_name(board.title or file.stem, chosen.seed)
        return Job(str(file), board.shots, self.folder / name, chosen)


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
