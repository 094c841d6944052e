from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from arlon_cli.config import ModelConfig, SegmentConfig
from arlon_cli.pipeline.extension import extend_latents, extend_pixels, extend_plan, fitted
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.reference import NO_REFERENCE, Reference, tail_frames
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store

SETTINGS = Settings(seed=5, num_steps=2, guidance_scale=1.0, use_ar=True)


def video(pipeline: Pipeline, shots: Sequence[Shot], settings: Settings = SETTINGS) -> np.ndarray:
    return np.concatenate(list(pipeline.frames(shots, settings)))


def noise(num_frames: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, size, size, 3), np.uint8)


@pytest.fixture
def pipeline(tiny_checkpoint: Path, tmp_path: Path) -> Pipeline:
    return Pipeline(
        Checkpoint(tiny_checkpoint), device=torch.device("cpu"), dtype=torch.float32, store=Store(tmp_path, 10**9)
    )


@pytest.mark.parametrize("num_frames", [20, 32, 80])  # ends of whole segments
@pytest.mark.parametrize("use_ar", [True, False])
def test_behind_whole_segments_it_equals_a_longer_video(pipeline: Pipeline, num_frames: int, use_ar: bool) -> None:
    settings = replace(SETTINGS, use_ar=use_ar)
    shots = [Shot("a red hill", 8), Shot("a blue sea", num_frames - 8)]
    video(pipeline, shots, settings)
    extension = extend_plan(pipeline.metadata(shots, settings), "a blue sea", 50)
    added = np.concatenate(list(extension.frames(pipeline)))
    assert len(added) == 50
    longer = video(pipeline, [Shot("a red hill", 8), Shot("a blue sea", num_frames + 42)], settings)
    assert np.abs(added.astype(int) - longer[num_frames:]).max() <= 1  # of a level, by rounding


@pytest.mark.parametrize("num_frames", [1, 5, 22, 23])
@pytest.mark.parametrize("added", [1, 2, 30])
@pytest.mark.parametrize("prompt", ["a red hill", "snow"])
def test_the_frames_before_stay_as_they_are(pipeline: Pipeline, num_frames: int, added: int, prompt: str) -> None:
    before = video(pipeline, [Shot("a red hill", num_frames)])
    made = pipeline.metadata([Shot("a red hill", num_frames)], SETTINGS)
    extension = extend_plan(made, prompt, added)
    whole = video(pipeline, extension.shots)
    new = np.concatenate(list(extension.frames(pipeline)))
    assert np.array_equal(whole[:num_frames], before)
    assert len(new) == added
    assert np.abs(whole[num_frames:].astype(int) - new).max() <= 1


@pytest.mark.parametrize(("num_latents", "overlap"), [(7, 2), (10, 5), (8, 0)])
def test_chunks_of_17_frames_are_decoded_whole_wherever_segments_end(
    tiny_backbone: Path, tmp_path: Path, num_latents: int, overlap: int
) -> None:
    checkpoint = Checkpoint(tiny_backbone)
    pipeline = Pipeline(
        checkpoint,
        device=torch.device("cpu"),
        dtype=torch.float32,
        store=Store(tmp_path / "store", 10**9),
        config=replace(checkpoint.config, segments=SegmentConfig(num_latents, overlap)),
    )
    settings = replace(SETTINGS, use_ar=False)
    whole = video(pipeline, [Shot("a red hill", 90)], settings)
    for first_frame in (16, 17, 40, 70):
        end = np.concatenate(list(pipeline.frames([Shot("a red hill", 90)], settings, first_frame=first_frame)))
        assert len(end) == 90 - first_frame
        assert np.abs(whole[first_frame:].astype(int) - end).max() <= 1


def test_cuts_before_do_not_matter(pipeline: Pipeline) -> None:
    shots = [Shot("a red hill", 30), Shot("a blue sea", 32, cut=True)]
    video(pipeline, shots)
    extension = extend_plan(pipeline.metadata(shots, SETTINGS), "a blue sea", 24)
    longer = video(pipeline, [shots[0], Shot("a blue sea", 56, cut=True)])
    assert np.abs(np.concatenate(list(extension.frames(pipeline))).astype(int) - longer[62:]).max() <= 1


def test_stored_latents_show_what_they_showed(pipeline: Pipeline) -> None:
    shots = [Shot("a red hill", 30)]
    before = video(pipeline, shots)
    extension = extend_latents(pipeline.metadata(shots, SETTINGS), "snow", 20, replace(SETTINGS, seed=1), pipeline)
    assert extension.first_frame % 4 == 30 % 4
    assert sum(shot.num_frames for shot in extension.shots) == extension.first_frame + 20
    last = extension.reference.latents
    assert last is not None
    surplus = -30 % 4
    shown = np.concatenate(list(pipeline.decode([last])))[: last.shape[2] * 4 - surplus]
    assert len(shown) == extension.first_frame
    assert np.abs(shown[-4:].astype(int) - before[-4:]).mean() < np.abs(before[0].astype(int) - before[-1]).mean()


def test_pixels_go_on_from_the_end(pipeline: Pipeline) -> None:
    frames = noise(90)
    one = extend_pixels(frames, "snow", 20, SETTINGS, pipeline)
    assert np.array_equal(tail_frames(frames, pipeline.config), frames[-24:])
    assert one.reference.given.num_latents == 6
    assert one.reference.given.num_codes == 3
    same = extend_pixels(np.concatenate([noise(9, seed=1), frames[-40:]]), "snow", 20, SETTINGS, pipeline)
    assert same.reference.given == one.reference.given
    new = np.concatenate(list(one.frames(pipeline)))
    assert len(new) == 20
    other = extend_pixels(noise(90, seed=2), "snow", 20, SETTINGS, pipeline)
    assert not np.array_equal(new, np.concatenate(list(other.frames(pipeline))))


@pytest.mark.parametrize("num_frames", [2, 7, 8, 9, 23])
def test_short_ends_are_filled_up_at_their_beginning(tiny_config: ModelConfig, num_frames: int) -> None:
    frames = noise(num_frames)
    tail = tail_frames(frames, tiny_config)
    assert len(tail) == -(-num_frames // 8) * 8
    assert np.array_equal(tail[len(tail) - num_frames :], frames)
    assert all(np.array_equal(frame, frames[0]) for frame in tail[: len(tail) - num_frames])


def test_given_codes_take_the_place_of_a_draft(pipeline: Pipeline) -> None:
    shots = [Shot("a red hill", 50)]
    codes, num_frames = pipeline.encode_codes(noise(50))
    assert (codes.shape, num_frames) == ((7, 2, 2), 50)
    reference = Reference(codes=codes)
    [jobs] = pipeline.plan(shots, SETTINGS, reference)
    assert not any(job.spans for job in jobs)
    given = np.concatenate(list(pipeline.frames(shots, SETTINGS, reference)))
    assert not np.array_equal(given, video(pipeline, shots))
    [longer] = pipeline.plan([Shot("a red hill", 100)], SETTINGS, reference)
    assert sum(span.num_frames for job in longer for span in job.spans) == 13 - 7
    long = np.concatenate(list(pipeline.frames([Shot("a red hill", 100)], SETTINGS, reference)))
    assert np.array_equal(long[:44], given[:44])  # whole segments of both


def test_drafted_codes_given_back_make_the_same_video(pipeline: Pipeline) -> None:
    """What is drafted and what is given go the same way."""
    shots = [Shot("a red hill", 50)]
    drafted = video(pipeline, shots)
    [jobs] = pipeline.plan(shots, SETTINGS)
    codes = torch.cat([pipeline.store.read("codes", job.codes_key)["codes"].long() for job in jobs if job.spans])  # type: ignore[index]
    assert np.array_equal(np.concatenate(list(pipeline.frames(shots, SETTINGS, Reference(codes=codes)))), drafted)


def test_given_latents_come_first(pipeline: Pipeline) -> None:
    reference = pipeline.reference_of(noise(1), use_ar=True)
    assert (reference.given.num_latents, reference.given.num_codes) == (1, 1)
    assert reference.latents is not None
    frames = np.concatenate(list(pipeline.frames([Shot("a red hill", 30)], SETTINGS, reference)))
    assert len(frames) == 30
    assert np.array_equal(frames[:4], np.concatenate(list(pipeline.decode([reference.latents]))))


def test_keys_depend_on_what_is_given() -> None:
    one, two = torch.zeros(1, 4, 2, 4, 4), torch.ones(1, 4, 2, 4, 4)
    keys = {Reference(latents=latents).given.latents_key for latents in (one, two, one[:, :, :1], None)}
    assert len(keys) == 4
    assert Reference(latents=one).given == Reference(latents=one.clone()).given
    assert NO_REFERENCE.given.latents_key == NO_REFERENCE.given.codes_key == ""


def test_streamed_encoding_equals_whole(pipeline: Pipeline) -> None:
    frames = noise(75)
    latents = torch.cat(list(pipeline.encode(frames)), dim=2)
    filled = torch.from_numpy(np.concatenate([frames, frames[-1:]])).permute(3, 0, 1, 2)[None] / 127.5 - 1
    whole = pipeline.parts.video_vae.encode(filled)
    torch.testing.assert_close(latents, whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(pipeline.encode_codes(frames)[0], pipeline.parts.latent_vqvae.encode(latents)[0])


def test_streamed_decoding_of_codes_equals_whole(pipeline: Pipeline) -> None:
    codes = torch.randint(16, (41, 2, 2), generator=torch.Generator().manual_seed(0))
    streamed = np.concatenate(list(pipeline.decode_codes(codes, 41 * 8 - 3)))
    assert len(streamed) == 41 * 8 - 3
    whole = pipeline.parts.video_vae.decode(pipeline.parts.latent_vqvae.decode(codes[None]))[0].permute(1, 2, 3, 0)
    levels = ((whole + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()[:-3]
    assert np.abs(streamed.astype(int) - levels).max() <= 1


@pytest.mark.parametrize(("source_fps", "fps"), [(24, 24), (24, 30), (24, 12), (24, 24 / 1.001)])
def test_frames_are_fitted_in_time(source_fps: float, fps: float) -> None:
    frames = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    for parts in (1, 7, 60):
        found = np.concatenate(
            list(
                fitted(np.array_split(frames, parts), width=2, height=2, source_fps=source_fps, fps=fps, num_frames=25)
            )
        )
        assert found[:, 0, 0, 0].tolist() == [int(number * source_fps / fps) for number in range(25)]


def test_frames_are_fitted_in_size() -> None:
    [frames] = fitted([noise(3, 8)], width=16, height=12, source_fps=24, fps=24, num_frames=2)
    assert frames.shape == (2, 12, 16, 3)
    assert frames.dtype == np.uint8
