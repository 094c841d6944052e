import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arlon_cli.errors import ArlonError, InputError
from arlon_cli.storage.append import append_by_copy, can_copy
from arlon_cli.storage.metadata import ShotRecord, VideoMetadata
from arlon_cli.storage.video import VideoWriter, last_line, probe, read_frames, read_metadata, run_ffmpeg

MADE = VideoMetadata(
    version="0.1.0",
    model="tiny",
    model_digest="abc",
    shots=(ShotRecord('A "red"; hill = #1 \\ of 火山\nand more', 9, False), ShotRecord("Second", 8, True)),
    seed=3,
    num_steps=4,
    guidance_scale=1.5,
    use_ar=True,
    width=32,
    height=16,
    fps=24,
    dtype="float32",
    last_latents="def",
)


def clip(num_frames: int) -> np.ndarray:
    """Frames (n, 16, 32, 3) that get brighter."""
    return np.broadcast_to(
        np.linspace(20, 230, num_frames).astype(np.uint8)[:, None, None, None], (num_frames, 16, 32, 3)
    )


def with_rate(path: Path, fps: float) -> Path:
    """A video of so many frames a second."""
    made = run_ffmpeg("-f", "lavfi", "-i", f"color=red:size=32x16:rate={fps}", "-frames:v", "4", str(path))
    assert made.returncode == 0
    return path


def write(path: Path, frames: np.ndarray, comment: str = "") -> None:
    with VideoWriter(path, width=32, height=16, fps=24, comment=comment) as writer:
        for chunk in np.array_split(frames, 3):
            writer.write(chunk)


@pytest.mark.parametrize("num_frames", [3, 4, 50])
def test_every_frame_is_there(tmp_path: Path, num_frames: int) -> None:
    path = tmp_path / "clip.mp4"
    write(path, clip(num_frames))
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (32, 16, 24.0, num_frames)
    frames = np.stack(list(read_frames(path, width=32, height=16)))
    assert frames.shape == clip(num_frames).shape
    assert np.abs(frames.astype(int) - clip(num_frames)).max() < 12
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["clip.mp4"]


def test_metadata_survives(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", clip(5), MADE.to_json())
    assert read_metadata(tmp_path / "clip.mp4") == MADE
    write(tmp_path / "plain.mp4", clip(5))
    assert read_metadata(tmp_path / "plain.mp4") is None


@pytest.mark.parametrize("name", ["Harbour: dawn.mp4", "12:30/a clip.mp4", "-y.mp4", "100%03d 'x'.mp4"])
def test_names_that_ffmpeg_would_take_otherwise(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    write(path, clip(5), MADE.to_json())
    info = probe(path)
    assert info.num_frames == len(list(read_frames(path, width=32, height=16))) == 5
    assert read_metadata(path) == MADE
    assert can_copy(path, info, 5)
    assert append_by_copy(path, [clip(5)], path.with_name("b: c.mp4"), info, "", overwrite=False) == 10


def test_metadata_may_be_longer_than_a_command_line(tmp_path: Path) -> None:
    made = replace(MADE, shots=tuple(ShotRecord(f"{i} " + "hill " * 900, 9, False) for i in range(60)))
    assert len(made.to_json()) > 250_000
    write(tmp_path / "clip.mp4", clip(5), made.to_json())
    assert read_metadata(tmp_path / "clip.mp4") == made


def test_frames_are_resampled_in_time(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", clip(24))
    assert len(list(read_frames(tmp_path / "clip.mp4", width=32, height=16, fps=12))) == 12


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path, clip(4))
    before = path.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(path, width=32, height=16, fps=24, comment="") as writer:
        writer.write(clip(4))
        raise RuntimeError
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["clip.mp4"]


def test_a_writer_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ArlonError, match=r"Could not write .*No such file"):
        write(tmp_path / "nowhere" / "clip.mp4", clip(4))


def test_ffmpegs_reason_is_that_of_the_disk_where_it_tells_one() -> None:
    log = b"[mp4 @ 0x55aa] [h264 @ 0x1f] Error closing file: No space left on device\nConversion failed!\n"
    assert last_line(log) == "Error closing file: No space left on device"
    assert last_line(b"[out#0/mp4 @ 0x5564cb] Nothing was written..\n") == "Nothing was written"
    assert last_line(b"") == "ffmpeg gave no reason"


@pytest.mark.parametrize(
    "comment", ["waves... fps", "a campfire, 60 fps", "x\n  Stream #0:0: Video: h264, 64x64, 9 fps"]
)
def test_what_a_comment_says_is_not_probed(comment: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, width=32, height=16, fps=24, comment=comment) as writer:
        writer.write(clip(5))
    found = probe(path)
    assert (found.width, found.height, found.fps, found.num_frames, found.comment) == (32, 16, 24, 5, comment)


def test_no_frames_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(ArlonError) as raised,
        VideoWriter(tmp_path / "clip.mp4", width=32, height=16, fps=24, comment=""),
    ):
        pass
    assert raised.value.exit_code == 1  # not the user's fault
    assert not [file for file in tmp_path.iterdir() if file.is_file()]


@pytest.mark.parametrize("fps", [0.5, 15, 1000])
def test_rates_are_probed(tmp_path: Path, fps: float) -> None:
    rated = with_rate(tmp_path / "clip.mp4", fps)
    assert probe(rated).fps == fps


def test_small_videos_are_probed(tmp_path: Path) -> None:
    made = run_ffmpeg("-f", "lavfi", "-i", "color=red:size=8x4:rate=5", "-frames:v", "4", str(tmp_path / "clip.mkv"))
    assert made.returncode == 0
    assert (probe(tmp_path / "clip.mkv").width, probe(tmp_path / "clip.mkv").height) == (8, 4)


def test_without_overwrite_a_file_of_the_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*paths: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    path = tmp_path / "clip.mp4"
    write(tmp_path / "source.mp4", clip(5), "")
    info = probe(tmp_path / "source.mp4")
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", no_links)
        path.write_text("mine")
        with (
            pytest.raises(ArlonError, match="is kept"),
            VideoWriter(path, width=32, height=16, fps=24, comment="", overwrite=False) as writer,
        ):
            writer.write(clip(3))
        with pytest.raises(ArlonError, match="is kept"):
            append_by_copy(tmp_path / "source.mp4", [clip(5)], path, info, "", overwrite=False)
        assert path.read_text() == "mine"
        path.unlink()
        append_by_copy(tmp_path / "source.mp4", [clip(5)], path, info, "", overwrite=False)
        assert probe(path).num_frames == 10
        assert {file.name for file in tmp_path.iterdir()} == {"clip.mp4", "source.mp4"}


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="33x16"):
        VideoWriter(tmp_path / "clip.mp4", width=33, height=16, fps=24, comment="")


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "letter.mp4").write_text("Dear")
    with pytest.raises(InputError, match="no video"):
        probe(tmp_path / "letter.mp4")
    with pytest.raises(InputError, match="no video"):
        list(read_frames(tmp_path / "letter.mp4", width=32, height=16))
    with pytest.raises(InputError, match="no file"):
        probe(tmp_path / "nothing.mp4")


def test_other_comments_are_no_metadata() -> None:
    no_shots = MADE.to_json().replace(MADE.to_json().split('"shots":')[1].split(',"seed"')[0], "[]")
    for text in ("", "nice", "[]", "{}", '{"arlon": {"shots": []}}', no_shots, "[" * 20_000):
        assert VideoMetadata.from_json(text) is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"seed":3', '"seed":"3"'),
        ('"fps":24', '"fps":null'),
        ('"guidance_scale":1.5', '"guidance_scale":"strong"'),
        ('"redo":[]', '"redo":["first"]'),
        ('"num_frames":9', '"num_frames":1e999'),
        ('"shots":[', '"shots":[7,'),
    ],
)
def test_metadata_of_other_types_is_none(right: str, wrong: str) -> None:
    assert right in MADE.to_json()
    assert VideoMetadata.from_json(MADE.to_json().replace(right, wrong, 1)) is None


def test_metadata_of_an_earlier_version_is_read() -> None:
    text = MADE.to_json()
    for added in (',"num_frames":0', ',"codes":""', ',"image":""', ',"extends":""', ',"added":false'):
        assert added in text
        text = text.replace(added, "")
    assert VideoMetadata.from_json(text) == MADE


def test_turned_videos_are_probed_upright(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", clip(5))
    turned = str(tmp_path / "turned.mp4")
    assert run_ffmpeg("-display_rotation", "90", "-i", str(tmp_path / "clip.mp4"), "-c", "copy", turned).returncode == 0
    info = probe(tmp_path / "turned.mp4")
    assert (info.width, info.height) == (16, 32)


@pytest.mark.parametrize(("written", "found"), [("24000/1001", 24000 / 1001), ("30", 30.0), ("12.5", 12.5)])
def test_rates_are_exact(tmp_path: Path, written: str, found: float) -> None:
    path = tmp_path / "clip.mp4"
    assert run_ffmpeg("-f", "lavfi", "-i", f"testsrc=s=32x16:r={written}", "-frames:v", "9", str(path)).returncode == 0
    assert probe(path).fps == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.97])
def test_a_video_that_is_cut_short(tmp_path: Path, share: float) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "clip.mp4", rng.integers(0, 255, (40, 16, 32, 3), np.uint8))
    whole = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="cut short"):
        list(read_frames(tmp_path / "clip.mp4", width=32, height=16))
