"""`arlon batch`: many videos, with the models loaded once."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arlon_cli.cli import options
from arlon_cli.cli.console import Console, Interrupted, counted, print_line, print_result
from arlon_cli.cli.engine import open_pipeline, wanted_config
from arlon_cli.cli.generate import Frames, Seconds
from arlon_cli.cli.jobs import BatchJob, BatchReader
from arlon_cli.cli.render import RenderOptions, Work, is_as_told, preview_of, render_video, sheet_of, work_of
from arlon_cli.errors import ArlonError, InputError

if TYPE_CHECKING:
    from arlon_cli.pipeline.pipeline import Pipeline

RESULTS = "results.jsonl"


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
    together: Annotated[
        int,
        typer.Option(
            "--together",
            metavar="N",
            min=1,
            help="Denoise segments of N jobs at once, as far as memory allows: for GPUs that one leaves idle. In "
            "float32, frames come out a rounding otherwise.",
        ),
    ] = 1,
    no_metadata: options.NoMetadata = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line instead of paths.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Render many videos. Run again, it does only what is missing; `results.jsonl` records what became of each job.

    A job's own values win over the options given here. Every line is checked before anything is rendered.
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
    reader = BatchReader(context, folder, common, frames, seconds, config.fps)
    jobs = reader.read(source)
    verbosity = verbose - quiet
    try:
        with Console(verbosity) as console:
            pipeline = open_pipeline(
                checkpoint, device, dtype, console, config=config, offload=offload, compile_parts=compile_parts
            )
            videos = [_Video(pipeline, job, skip_existing) for job in jobs]
            failed = _render_all(videos, together, folder, pipeline, console, as_json)
    except KeyboardInterrupt as error:
        raise Interrupted("Interrupted. The same command goes on where it stopped: what is done is kept.") from error
    results, number = folder / RESULTS, counted(len(jobs), "job")
    if failed:
        raise ArlonError(f"{failed} of {number} failed; {results} says why. Run again to retry them.")
    if verbosity >= 0:
        print_line(f"{number} done{f'; see {results}' if results.exists() else ''}")


class _Video:
    """A job's video, and whether its file is there, `made`, and nothing is missing beside it, `done`."""

    def __init__(self, pipeline: "Pipeline", job: BatchJob, skip_existing: bool) -> None:
        self.pipeline, self.job, self.skip_existing = pipeline, job, skip_existing
        self.seconds = 0.0  # its share of what was rendered ahead
        self._work: Work | None = None
        self.look()

    def look(self) -> None:
        """See what is there now."""
        self.made = self.job.path.exists() and (self.skip_existing or self._is_made())
        self.done = self.made and (self.skip_existing or not self._lacks())
        if self.done:
            self._work = None

    def work(self) -> Work:
        """What is to be made, kept until that is done. Raises InputError for codes or a picture that do not serve."""
        if self._work is None:
            self._work = work_of(self.pipeline, self.job.shots, self.job.options)
        return self._work

    def allowed_work(self) -> Work:
        """As `work`. Raises InputError also where that would replace a file that was made otherwise."""
        if self.job.path.exists() and not (self.made or self.job.options.overwrite):
            raise InputError(f"{self.job.path} exists already and was made otherwise; give --overwrite to replace it.")
        return self.work()

    def render(self, console: Console) -> dict[str, Any]:
        """Make it, and what is missing beside it; returns what there is to say about it."""
        work, self._work = self.allowed_work(), None
        again, path, options = self.made, self.job.path, self.job.options
        return render_video(self.pipeline, work, path, options, console, again=again, seconds=self.seconds)

    def _is_made(self) -> bool:
        """Whether the file that is there is what the job would make, as far as it tells."""
        try:
            return is_as_told(self.job.path, self.work().made, self.job.options.metadata)
        except InputError:  # the job's own to report
            return False

    def _lacks(self) -> bool:
        """Whether a sheet or a preview that the job is to make beside its video is missing, or of another one."""
        path, options = self.job.path, self.job.options
        sheet, preview = sheet_of(path), preview_of(path)
        if options.sheet and not (sheet.exists() and sheet.stat().st_mtime >= path.stat().st_mtime):
            return True
        if not options.preview:
            return False
        about = replace(self.work().made, preview=True)
        return not (preview.exists() and is_as_told(preview, about, options.metadata))


def _render_all(
    videos: Sequence[_Video], together: int, folder: Path, pipeline: "Pipeline", console: Console, as_json: bool
) -> int:
    """Render the videos that are missing; returns how many failed."""
    missing = [video for video in videos if not video.done]
    if missing:
        pipeline.check(any(video.job.options.use_ar for video in videos))
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be the folder of the results: {error.strerror}.") from error
        pipeline.encode_prompts([shot.prompt for video in missing for shot in video.job.shots])
    failed = 0
    for first in range(0, len(videos), together):  # by their places in the batch, whatever is missing
        group = videos[first : first + together]
        _render_ahead([video for video in group if not video.done], missing, pipeline, console)
        for video in group:
            failed += not _render(video, missing, folder, console, as_json)
    return failed


def _render_ahead(videos: Sequence[_Video], missing: Sequence[_Video], pipeline: "Pipeline", console: Console) -> None:
    """Render the latents of videos together; errors are left for each video's own turn."""
    works = []
    for video in videos if len(videos) > 1 else ():
        with suppress(Exception):
            works.append(video.allowed_work())
    if len(works) < 2:
        return
    first, start = missing.index(videos[0]) + 1, time.monotonic()
    console.begin(f"Jobs {first} to {first + len(videos) - 1} of {len(missing)}: ")
    try:
        pipeline.render_ahead([(work.shots, work.settings, work.reference) for work in works])
    except Exception as error:
        console.warn(f"Rendering together failed and goes on one by one ({_reason(error)})")
    for video in videos:
        video.seconds = (time.monotonic() - start) / len(videos)


def _render(video: _Video, missing: Sequence[_Video], folder: Path, console: Console, as_json: bool) -> bool:
    """Render a video where it is missing, and print and record what became of it; returns whether it is there."""
    job = video.job
    if not video.made:
        video.look()  # for what another process that works here has made
    if not video.done:
        console.begin(f"Job {missing.index(video) + 1} of {len(missing)}: ")
        about = {"job": job.where, "path": str(job.path)}
        try:
            result = video.render(console)
        except Exception as error:
            video.look()
            if not video.done:  # by another process that was faster
                console.warn(f"{job.where} failed: {_reason(error)}")
                _record(folder, about | {"status": "failed", "error": _reason(error)})
                return False
        else:
            _record(folder, about | {"status": "done"} | result)
            print_result(job.path, {"job": job.where} | result, as_json)
            return True
    print_result(job.path, {"job": job.where, "skipped": True}, as_json)
    return True


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ArlonError) else f"Unexpected {type(error).__name__}: {error}"


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
