"""A data set of a few short videos."""

from pathlib import Path

import numpy as np
import pytest

from arlon_cli.storage.video import VideoWriter

CAPTIONS = {"red.mp4": "a red hill", "blue.mp4": "a blue sea", "wide.mp4": "snow under a hill"}


def write_video(path: Path, *, num_frames: int, width: int, height: int, fps: float, seed: int) -> None:
    """A soft pattern that moves."""
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    time, y, x = np.ogrid[:num_frames, :height, :width]
    waves = [128 + 100 * np.sin(x / 5 + y / 7 + time / 6 + phase) for phase in phases]
    frames = np.stack(waves, axis=-1).astype(np.uint8)
    with VideoWriter(path, width=width, height=height, fps=fps, comment="") as writer:
        writer.write(frames)


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captions.csv of three videos and one file that is none; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    write_video(folder / "red.mp4", num_frames=60, width=32, height=32, fps=24, seed=0)
    write_video(folder / "blue.mp4", num_frames=30, width=48, height=40, fps=12, seed=1)
    write_video(folder / "wide.mp4", num_frames=48, width=96, height=48, fps=24, seed=2)
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    rows = [f"{name},{caption}\n" for name, caption in {**CAPTIONS, "bad.mp4": "nothing"}.items()]
    (folder / "captions.csv").write_text("file,caption\n" + "".join(rows))
    return folder
