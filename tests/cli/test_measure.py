"""Where the videos that arlon made were put together."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from arlon_cli.cli.app import run
from arlon_cli.cli.measure import measure_videos, seams_of
from arlon_cli.config import ModelConfig
from arlon_cli.errors import InputError
from arlon_cli.evaluation.overview import Video
from arlon_cli.pipeline.segments import Settings, plan_jobs
from arlon_cli.pipeline.shots import Shot, scenes_of
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2
from arlon_cli.storage import video
from arlon_cli.storage.metadata import VideoMetadata
from arlon_cli.storage.video import VideoWriter, read_frames, read_metadata

SETTINGS = Settings(seed=1, num_steps=4, guidance_scale=1.0, use_ar=True)
HILL, SEA = Shot("a hill", 110), Shot("a sea", 90)


@pytest.mark.parametrize("config", [DIORAMA, OPENSORA_V1_2], ids=lambda config: config.name)
@pytest.mark.parametrize(
    "shots",
    [
        [HILL],
        [HILL, SEA],
        [HILL, Shot("snow", 75, cut=True), SEA],
        [HILL, HILL.more(100)],
        [HILL, SEA, SEA.more(40), Shot("snow", 75, cut=True), Shot("snow", 61, added=True)],
    ],
)
def test_joins_are_where_the_plan_has_them(shots: Sequence[Shot], config: ModelConfig) -> None:
    joins, cuts, start = [], [], 0
    for scene in scenes_of(shots):
        cuts += [start] if start else []
        for job in plan_jobs(scene, 1, SETTINGS, config, digest="abc", dtype="float32"):
            new = job.segment.start + job.segment.overlap
            joins += [start + config.video_vae.chunk.frames(new)] if new else []
        start += sum(shot.num_frames for shot in scene)
    seams = seams_of(shots, config)
    assert (seams.joins, seams.cuts) == (tuple(joins), tuple(cuts))
    assert joins
    assert max(joins) < start


def test_a_video_that_is_not_as_planned_has_no_known_joins(tiny_checkpoint: Path, here: Path) -> None:
    model = ["--model", str(tiny_checkpoint), "-q"]
    assert run(["generate", "a red hill", "--frames", "40", "-o", "whole.mp4", *model]) == 0

    def measured(path: str) -> Video:
        [video], _ = measure_videos([here / path], str(tiny_checkpoint), False, lambda message: None)
        return video

    def write(path: str, num_frames: int, made: VideoMetadata) -> None:
        frames = list(read_frames(here / "whole.mp4", width=32, height=32))
        with VideoWriter(here / path, width=32, height=32, fps=24, comment=made.to_json()) as writer:
            for frame in frames[:num_frames]:
                writer.write(frame[None])

    made = read_metadata(here / "whole.mp4")
    assert made is not None
    whole = measured("whole.mp4").seams
    assert whole is not None
    assert max(whole.joins) > 20
    write("cut.mp4", 20, made)  # as other tools cut it, which keep the comment
    assert measured("cut.mp4").seams is None
    assert run(["extend", "whole.mp4", "--frames", "16", "-o", "longer.mp4", *model]) == 0
    longer = measured("longer.mp4").seams
    assert longer is not None
    assert longer.joins[: len(whole.joins)] == whole.joins
    assert run(["extend", "cut.mp4", "--frames", "16", "-o", "other.mp4", *model]) == 0
    assert measured("other.mp4").seams is None


def test_a_video_that_tells_no_rate(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "probe", lambda path: video.VideoInfo(32, 32, 0.0, 4, ""))
    with pytest.raises(InputError, match=r"still\.mp4 does not say how many frames a second"):
        measure_videos([here / "still.mp4"], None, with_sheets=False, on_event=lambda message: None)
