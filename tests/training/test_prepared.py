"""What frozen parts make of videos is made once, resumed where it stopped, and the same as `arlon encode` makes."""

import dataclasses
import json
import math
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arlon_cli.errors import ArlonError, InputError
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.dataset import find_sources
from arlon_cli.storage.store import Store
from arlon_cli.storage.video import read_frames
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.prepared import Encoding, Piece, Prepared, codes_key, text_key
from arlon_cli.training.processes import ALONE
from arlon_cli.training.work import PartSettings, Work


class Counted:
    """Prepares pixels of a data set, and counts how many pieces were made and what was said."""

    def __init__(self, folder: Path, stop_after: float = math.inf) -> None:
        self.made = 0
        self.said: list[str] = []
        self.prepared = Prepared(
            Store(folder, math.inf),
            fps=24.0,
            sizes=((32, 32), (32, 64)),
            processes=ALONE,
            on_event=self.said.append,
            stop=lambda: self.made >= stop_after,
        )

    def pieces(self, data: Path) -> list[Piece]:
        return self.prepared.pieces(find_sources(data), Encoding("pixels", "", 4, 16, axis=0, encode=self._encode))

    def _encode(self, frames: np.ndarray) -> Tensor:
        self.made += 1
        return torch.from_numpy(frames)


def test_videos_are_resampled_cut_and_put_beside_their_captions(videos: Path, tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    pieces = counted.pieces(videos)
    lengths: dict[tuple[str | None, tuple[int, int]], list[int]] = {}
    for piece in pieces:
        lengths.setdefault((piece.caption, piece.size), []).append(piece.length)
    assert lengths == {
        ("a red hill", (32, 32)): [16, 16, 16, 12],
        ("a blue sea", (32, 32)): [16, 16, 16, 12],  # 30 frames at 12 a second
        ("snow under a hill", (32, 64)): [16, 16, 16],
    }
    frames = list(read_frames(videos / "wide.mp4", width=64, height=32, fps=24))
    second = counted.prepared.read("pixels", pieces[-2].key)["pixels"]
    assert torch.equal(second, torch.from_numpy(np.stack(frames[16:32])))


def test_bad_clips_are_reported_each_time_and_skipped(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text(
        "".join(
            json.dumps({"file": str(videos / name), "caption": "a sea"}) + "\n"
            for name in ("bad.mp4", "red.mp4", "gone.mp4")
        )
    )
    for _ in range(2):
        counted = Counted(tmp_path)
        assert len(counted.pieces(tmp_path / "some.jsonl")) == 4
        bad, gone = counted.said
        assert re.fullmatch(r"Skipped: \S+/bad.mp4 is no video that ffmpeg can read.*", bad)
        assert re.fullmatch(r"Skipped: There is no file \S+/gone.mp4\.", gone)


def test_a_bad_clip_of_a_shard_is_named_by_its_key(videos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("red.mp4", "bad.mp4"):
            tar.add(videos / name, arcname=name)
    counted = Counted(tmp_path / "store")
    assert counted.pieces(tmp_path / "0.tar") == [
        dataclasses.replace(piece, caption=None) for piece in Counted(tmp_path / "store").pieces(videos)[:4]
    ]
    (message,) = counted.said
    assert message.startswith(f"Skipped: {tmp_path / '0.tar'}: bad is no video")


def test_nothing_is_made_twice(videos: Path, tmp_path: Path) -> None:
    first = Counted(tmp_path / "store")
    pieces = first.pieces(videos)
    assert first.made == len(pieces)
    again = Counted(tmp_path / "store")
    assert again.pieces(videos) == pieces
    assert again.made == 0
    moved = Counted(tmp_path / "store")
    shutil.copytree(videos, tmp_path / "moved")
    assert moved.pieces(tmp_path / "moved") == pieces
    assert moved.made == 0
    (tmp_path / "moved" / "red.mp4").unlink()
    shutil.copy(videos / "wide.mp4", tmp_path / "moved" / "red.mp4")
    changed = Counted(tmp_path / "store").pieces(tmp_path / "moved")
    assert [piece.key for piece in changed[:3]] == [piece.key for piece in pieces[-3:]]


def test_a_stopped_preparation_goes_on(videos: Path, tmp_path: Path) -> None:
    whole = Counted(tmp_path / "whole").pieces(videos)
    stopped = Counted(tmp_path / "parts", stop_after=6)
    with pytest.raises(Interrupted):
        stopped.pieces(videos)
    resumed = Counted(tmp_path / "parts")
    assert resumed.pieces(videos) == whole
    assert resumed.made == len(whole) - 4  # the first video was whole


def test_a_lost_piece_is_made_again(videos: Path, tmp_path: Path) -> None:
    first = Counted(tmp_path)
    piece = first.pieces(videos)[5]
    expected = first.prepared.read("pixels", piece.key)["pixels"]
    path = first.prepared.store.path("pixels", piece.key)
    path.unlink()
    again = Counted(tmp_path)
    again.pieces(videos)
    assert again.made == 4  # those of its video
    assert torch.equal(again.prepared.read("pixels", piece.key)["pixels"], expected)


def test_a_damaged_piece_is_named(videos: Path, tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    key = counted.pieces(videos)[0].key
    path = counted.prepared.store.path("pixels", key)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArlonError, match="gone or damaged; the same command makes it again"):
        counted.prepared.read("pixels", key)


def test_what_is_kept_in_memory_is_bounded(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(tmp_path)
    first, second, *_ = (piece.key for piece in counted.pieces(videos))
    size = counted.prepared.read("pixels", first)["pixels"].nbytes
    again = Prepared(**{f.name: getattr(counted.prepared, f.name) for f in dataclasses.fields(Prepared) if f.init})
    monkeypatch.setattr("arlon_cli.training.prepared._KEPT_BYTES", 1.5 * size)
    kept = again.read("pixels", first)["pixels"]
    assert again.read("pixels", first)["pixels"] is kept
    again.read("pixels", second)
    assert again.read("pixels", first)["pixels"] is not kept


def test_no_usable_video_is_an_error(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(videos / "bad.mp4", tmp_path / "data")
    with pytest.raises(InputError, match="None of the videos"):
        Counted(tmp_path / "store").pieces(tmp_path / "data")


@pytest.fixture
def work(videos: Path, tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., Work]:
    def make(**settings: object) -> Work:
        checkpoint = Checkpoint(tiny_checkpoint)
        size = (checkpoint.config.height, checkpoint.config.width)
        prepared = Prepared(Store(tmp_path, math.inf), 24.0, (size,), ALONE, lambda message: None, lambda: False)
        basic = PartSettings("ar", 1, 1, 1, 1e-3, 0, False, (size,))
        return Work(
            checkpoint=checkpoint,
            settings=dataclasses.replace(basic, **settings),  # type: ignore[arg-type]
            sources=find_sources(videos),
            prepared=prepared,
            device=torch.device("cpu"),
            precision=torch.float32,
            processes=ALONE,
            checkpoint_layers=False,
            on_event=lambda message: None,
        )

    return make


def test_latents_and_codes_are_those_of_encode(videos: Path, tmp_path: Path, work: Callable[..., Work]) -> None:
    mine = work()
    pieces = mine.latents()
    read_codes = mine.codes(pieces, "latent_vqvae")
    pipeline = Pipeline(
        mine.checkpoint, device=torch.device("cpu"), dtype=torch.float32, store=Store(tmp_path / "other", 10**9)
    )
    frames = list(read_frames(videos / "red.mp4", width=32, height=32, fps=24))
    latents = torch.cat(list(pipeline.encode(frames)), dim=2)[0]
    codes, _ = pipeline.encode_codes(frames)
    stored = mine.prepared.read("latents", pieces[0].key)["latents"]
    assert pieces[0].length == latents.shape[1] == 15
    torch.testing.assert_close(stored.float(), latents, atol=2e-3, rtol=2e-3)  # kept in half precision
    found = read_codes(pieces[0])
    assert found.shape == codes.shape
    assert (found == codes).float().mean() > 0.95  # rounding moves few
    key = codes_key(pieces[0].key, mine.digest("latent_vqvae"))
    assert mine.prepared.store.has("codes", key)


def test_text_is_read_as_it_was_encoded(work: Callable[..., Work]) -> None:
    mine = work()
    read = mine.texts([Piece("", (32, 32), 1, caption) for caption in ("a red hill", None)])
    text_encoder = mine.checkpoint.load("text_encoder", "cpu", torch.float32)
    with torch.no_grad():
        expected, expected_mask = text_encoder.encode(["a red hill", ""])  # type: ignore[operator]
    text, text_mask = read(["a red hill", ""])
    assert torch.equal(text_mask, expected_mask)
    torch.testing.assert_close(text, expected)
    stored = mine.prepared.read("text", text_key("a red hill", mine.digest("text_encoder")))["text"]
    assert len(stored) == 4  # three words and the end, without padding
