"""Videos on disk: H.264 in mp4, written frame by frame in a thread of its own, probed, then renamed."""

import errno
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import imageio_ffmpeg
import numpy as np

from arlon_cli.errors import ArlonError, InputError
from arlon_cli.storage.metadata import VideoMetadata
from arlon_cli.storage.partial import partial_file, put

_CRF = 16
_QUEUED_CHUNKS = 4
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
_FULL_BYTES = 64 * 1024  # of a disk, which is as good as none
_SPEAKER = re.compile(r"^(\[[^\[\]]* @ 0x[0-9a-f]+\] *)+")


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds; `fps` is 0 and its `comment`, as text, "" where it has none."""

    width: int
    height: int
    fps: float
    num_frames: int
    comment: str


class VideoWriter:
    """Writes frames to `path` as H.264, yuv420p; used in a `with` block.

    The file appears under its name when the block ends without an error and holds all frames that were written; else
    nothing is left. Without `overwrite`, one that has the name by then stays. Raises InputError for an odd width or
    height, ArlonError where the file cannot be written.
    """

    def __init__(
        self, path: Path, *, width: int, height: int, fps: float, comment: str, overwrite: bool = True
    ) -> None:
        if width % 2 or height % 2:
            raise InputError(f"H.264 takes an even width and height, not {width}x{height}.")
        self.path, self.overwrite = path, overwrite
        self.num_frames = 0
        self._shape = (height, width, 3)
        self._input = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]
        self._encoding = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(_CRF), "-preset", "medium"]
        self._encoding += ["-movflags", "+faststart"]
        self._comment = comment
        self._chunks: queue.Queue[np.ndarray | None] = queue.Queue(_QUEUED_CHUNKS)
        self._failed = threading.Event()

    def __enter__(self) -> Self:
        try:
            with ExitStack() as opened:
                self._temporary = opened.enter_context(partial_file(self.path))
                self._errors: IO[bytes] = opened.enter_context(tempfile.TemporaryFile())
                self._process = self._start(opened.enter_context(tempfile.TemporaryFile()))
                self._opened = opened.pop_all()
        except OSError as error:
            raise ArlonError(f"Could not write {self.path}: {error.strerror or error}.") from error
        self._thread = threading.Thread(target=self._pump, name="video writer", daemon=True)
        self._thread.start()
        return self

    def _start(self, about: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start ffmpeg, with the comment in the file `about`, since a command line holds no long storyboard."""
        about.write(as_ffmetadata(self._comment))
        about.seek(0)
        metadata = ["-f", "ffmetadata", "-i", f"/dev/fd/{about.fileno()}", "-map_metadata", "1"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
        return subprocess.Popen(
            [*command, *self._input, *metadata, *self._encoding, ffmpeg_path(self._temporary)],
            stdin=subprocess.PIPE,
            stderr=self._errors,
            stdout=subprocess.DEVNULL,
            pass_fds=[about.fileno()],
            start_new_session=True,  # Ctrl-C is for this process to handle
        )

    def write(self, frames: np.ndarray) -> None:
        """Append frames (n, H, W, 3) uint8; waits while the encoder is behind."""
        if frames.shape[1:] != self._shape or frames.dtype != np.uint8:
            raise ValueError(f"Frames {frames.shape} {frames.dtype} are not (n, {self._shape}) uint8.")
        self._chunks.put(frames)
        if self._failed.is_set():
            raise self._error()
        self.num_frames += len(frames)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._process.kill()
            self._chunks.put(None)
            self._thread.join()
            code = self._process.wait()
            if error is None:
                self._finish(code)
        finally:
            self._process.kill()
            self._process.wait()
            self._opened.close()

    def _finish(self, code: int) -> None:
        if code != 0 or self._failed.is_set():
            raise self._error()
        try:
            found = probe(self._temporary).num_frames
        except InputError as error:
            raise ArlonError(f"{self.path} came out as no video; it was not written.") from error
        if found != self.num_frames:
            raise ArlonError(f"{self.path} would have {found} frames instead of {self.num_frames}; it was not written.")
        try:
            put(self._temporary, self.path, overwrite=self.overwrite)
        except OSError as error:
            raise ArlonError(f"Could not write {self.path}: {error.strerror}.") from error

    def _pump(self) -> None:
        """Hand chunks to ffmpeg until the end; after a failure, take them and drop them."""
        assert self._process.stdin is not None
        while (frames := self._chunks.get()) is not None:
            if not self._failed.is_set():
                try:
                    self._process.stdin.write(np.ascontiguousarray(frames).data)
                except (OSError, ValueError):
                    self._failed.set()
        try:
            self._process.stdin.close()
        except OSError:
            self._failed.set()

    def _error(self) -> ArlonError:
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        reason = last_line(self._errors.read())
        if shutil.disk_usage(self._temporary.parent).free < _FULL_BYTES:  # which ffmpeg often does not say
            reason = os.strerror(errno.ENOSPC)
        return ArlonError(f"Could not write {self.path}: {reason}.")


def probe(path: Path) -> VideoInfo:
    """Size, rate, frames (counted, not estimated) and comment of a video. Raises InputError where it is none."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    counted = run_ffmpeg("-i", ffmpeg_path(path), "-map", "0:v:0", "-c", "copy", "-f", "null", "-")
    log = counted.stderr.decode(errors="replace")
    # of whole lines, since the log has the file's comment too, and that may say anything
    stream = re.search(r"^\s*Stream #.*?: Video: .*?\b([1-9]\d{0,4})x([1-9]\d{0,4})\b.*", log, re.MULTILINE)
    frames = re.findall(r"frame=\s*(\d+)", log)
    if counted.returncode != 0 or stream is None or not frames:
        raise InputError(f"{path} is no video that ffmpeg can read.")
    rate = re.search(r"\b(\d+(?:\.\d+)?)(k?) (?:fps|tbr)\b", stream[0])
    width, height = int(stream[1]), int(stream[2])
    if re.search(r"(?im)^\s*display ?matrix: rotation of -?(90|270)\b", log):  # ffmpeg turns such frames upright
        width, height = height, width
    return VideoInfo(
        width=width,
        height=height,
        fps=_exact_rate(float(rate[1]) * (1000 if rate[2] else 1)) if rate else 0.0,
        num_frames=int(frames[-1]),
        comment=_comment(path),
    )


def read_metadata(path: Path) -> VideoMetadata | None:
    """What this tool wrote into a video about its making; None where there is nothing of the kind."""
    return VideoMetadata.from_json(_comment(path))


def read_frames(path: Path, *, width: int, height: int, fps: float | None = None) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8 of a video, one at a time, scaled to cover `width`×`height` and cut at the centre.

    `fps` resamples in time. Raises InputError where the file is no video that ffmpeg can read, or is damaged or cut
    short, then after the frames that could be read.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    scale = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=area,crop={width}:{height}"
    filters = scale if fps is None else f"fps={fps},{scale}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-xerror", "-i", ffmpeg_path(path)]
    command += ["-map", "0:v:0", "-vf", filters]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    num_frames = 0
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            try:
                while len(frame := process.stdout.read(width * height * 3)) == width * height * 3:
                    yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
                    num_frames += 1
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0 and num_frames:
            raise InputError(f"{path} is damaged or cut short: only its first {num_frames} frames can be read.")
        if process.returncode != 0 or not num_frames:
            errors.seek(0)
            raise InputError(f"{path} is no video that ffmpeg can read: {last_line(errors.read())}.")


def _exact_rate(fps: float) -> float:
    """The rate that ffmpeg prints with two digits: 23.98 stands for 24000/1001."""
    return next((n / 1.001 for n in (24, 30, 48, 60, 120) if abs(n / 1.001 - fps) < 0.005), fps)


def ffmpeg_path(path: Path) -> str:
    """A path as ffmpeg takes it: in `Harbour: dawn.mp4` alone it would see a protocol."""
    return str(path.absolute())


def run_ffmpeg(*options: str) -> subprocess.CompletedProcess[bytes]:
    """ffmpeg with these options, run to its end whatever comes of it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", *options]
    return subprocess.run(command, capture_output=True, check=False)


def last_line(log: bytes) -> str:
    """Why ffmpeg failed: what it said last, or what it said of the disk."""
    lines = [_SPEAKER.sub("", line).strip(" .") for line in log.decode(errors="replace").strip().splitlines()]
    of_disk = [line for line in lines if any(os.strerror(code) in line for code in _DISK)]
    return (of_disk or lines or ["ffmpeg gave no reason"])[-1]


def as_ffmetadata(comment: str) -> bytes:
    """The file that tells ffmpeg a comment; `=`, `;`, `#`, `\\` and line ends are escaped."""
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment)
    return f";FFMETADATA1\ncomment={escaped}\n".encode()


def _comment(path: Path) -> str:
    text = run_ffmpeg("-i", ffmpeg_path(path), "-f", "ffmetadata", "-").stdout.decode(errors="replace")
    # values end at a line end that no backslash escapes; `=`, `;`, `#`, `\` and line ends are escaped by one
    match = re.search(r"^comment=((?:\\.|[^\\\n])*)", text, re.MULTILINE | re.DOTALL)
    return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL) if match else ""
