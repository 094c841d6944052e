"""Frames appended to a video on disk, whose own frames are copied as they are where that is possible."""

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from arlon_cli.errors import ArlonError
from arlon_cli.storage.partial import partial_file, put
from arlon_cli.storage.video import (
    VideoInfo,
    VideoWriter,
    as_ffmetadata,
    ffmpeg_path,
    last_line,
    probe,
    read_frames,
    run_ffmpeg,
)

_LEAST_FRAMES = 3  # shorter streams have no B-frames, and their decoding times do not meet those of longer ones


def can_copy(source: Path, info: VideoInfo, num_frames: int) -> bool:
    """Whether `num_frames` of this tool's encoder can follow those of `source` in one stream: same parameter sets."""
    if min(info.num_frames, num_frames) < _LEAST_FRAMES or info.width % 2 or info.height % 2:
        return False
    if source.suffix.lower() != ".mp4":
        return False
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample.mp4"
        with VideoWriter(sample, width=info.width, height=info.height, fps=info.fps, comment="") as writer:
            writer.write(np.zeros((1, info.height, info.width, 3), np.uint8))
        wanted = _parameter_sets(sample)
        return bool(wanted) and _parameter_sets(source) == wanted


def append_by_copy(
    source: Path, frames: Iterable[np.ndarray], path: Path, info: VideoInfo, comment: str, *, overwrite: bool
) -> int:
    """Write `path`: the frames of `source`, copied, then chunks of frames (n, H, W, 3) uint8; returns their number.

    `source` is one that `can_copy` accepts. The file appears whole or not at all, without `overwrite` where none is.
    Raises ArlonError.
    """
    with tempfile.TemporaryDirectory() as folder:
        added = Path(folder) / "added.mp4"
        with VideoWriter(added, width=info.width, height=info.height, fps=info.fps, comment="") as writer:
            for chunk in frames:
                writer.write(chunk)
        parts = Path(folder) / "parts.txt"
        parts.write_bytes(b"".join(b"file %b\n" % _quoted(part.resolve()) for part in (source, added)))
        about = Path(folder) / "about.txt"  # a command line holds no long storyboard
        about.write_bytes(as_ffmetadata(comment))
        command = ["-f", "concat", "-safe", "0", "-i", str(parts), "-f", "ffmetadata", "-i", str(about)]
        command += ["-map", "0:v:0", "-map_metadata", "1", "-c", "copy", "-movflags", "+faststart", "-y"]
        try:
            with partial_file(path) as joined:
                done = run_ffmpeg("-loglevel", "error", *command, ffmpeg_path(joined))
                if done.returncode != 0:
                    raise ArlonError(f"Could not write {path}: {last_line(done.stderr)}.")
                expected, found = info.num_frames + writer.num_frames, probe(joined).num_frames
                if found != expected:
                    raise ArlonError(f"{path} would have {found} frames instead of {expected}; it was not written.")
                put(joined, path, overwrite=overwrite)
        except OSError as error:
            raise ArlonError(f"Could not write {path}: {error.strerror}.") from error
    return found


def append_encoded(
    source: Path,
    frames: Iterable[np.ndarray],
    path: Path,
    *,
    width: int,
    height: int,
    fps: float,
    comment: str,
    overwrite: bool,
) -> int:
    """Write `path`: the frames of `source` at this size and rate, encoded again, then chunks of frames (n, H, W, 3).

    Returns the number of frames. Raises InputError where `source` cannot be read, ArlonError where `path` cannot be
    written.
    """
    with VideoWriter(path, width=width, height=height, fps=fps, comment=comment, overwrite=overwrite) as writer:
        for frame in read_frames(source, width=width, height=height, fps=fps):
            writer.write(frame[None])
        for chunk in frames:
            writer.write(chunk)
    return writer.num_frames


def _parameter_sets(path: Path) -> list[bytes]:
    """The H.264 parameter sets of a video, which all its frames refer to; none where it is no H.264."""
    stream = run_ffmpeg(
        "-i", ffmpeg_path(path), "-map", "0:v:0", "-c", "copy", "-frames:v", "1", "-f", "h264", "-"
    ).stdout
    units = re.split(rb"\x00{2,3}\x01", stream)
    return [unit for unit in units if unit and unit[0] & 31 in (7, 8)]


def _quoted(path: Path) -> bytes:
    return b"'" + os.fsencode(path).replace(b"'", b"'\\''") + b"'"
