from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from arlon_cli.config import ModelConfig
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.pipeline.denoising import rescheduled_noise, segment_noise
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.progress import Progress
from arlon_cli.pipeline.rendering import Renderer
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.pipeline.sizes import at_fps
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store

SETTINGS = Settings(seed=5, num_steps=2, guidance_scale=1.0, use_ar=True)
HILL = (Shot("a red hill", 50),)


class Recorded(Pipeline):
    """A pipeline with a store of its own that remembers what it reported."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.events: list[Progress] = []
        self.warnings: list[str] = []
        super().__init__(
            Checkpoint(checkpoint),
            device=torch.device("cpu"),
            dtype=torch.float32,
            store=Store(folder, 10**9),
            on_progress=self.events.append,
            on_warning=self.warnings.append,
        )

    def video(self, shots: tuple[Shot, ...], settings: Settings = SETTINGS) -> np.ndarray:
        self.events.clear()
        return np.concatenate(list(self.frames(shots, settings)))

    def segments(self, stage: str) -> list[int]:
        """The segments that went through a stage in the last video."""
        return sorted({event.segment for event in self.events if event.stage == stage})


@pytest.fixture
def pipeline(tiny_checkpoint: Path, tmp_path: Path) -> Recorded:
    return Recorded(tiny_checkpoint, tmp_path / "one")


@pytest.fixture
def fresh(tiny_checkpoint: Path, tmp_path: Path) -> Recorded:
    return Recorded(tiny_checkpoint, tmp_path / "two")


@pytest.mark.parametrize("num_frames", [1, 3, 20, 21, 45])
@pytest.mark.parametrize("use_ar", [True, False])
def test_the_number_of_frames_is_exact(pipeline: Recorded, num_frames: int, use_ar: bool) -> None:
    video = pipeline.video((Shot("a hill", num_frames),), replace(SETTINGS, use_ar=use_ar))
    assert video.shape == (num_frames, 32, 32, 3)
    assert pipeline.events[-1].num_frames == pipeline.events[-1].total_frames == num_frames


def test_same_seed_same_bytes(pipeline: Recorded, fresh: Recorded) -> None:
    assert np.array_equal(pipeline.video(HILL), fresh.video(HILL))
    assert pipeline.segments("denoise") == fresh.segments("denoise") == [1, 2, 3, 4]


def test_seed_prompt_and_settings_matter(pipeline: Recorded) -> None:
    video = pipeline.video(HILL)
    assert not np.array_equal(video, pipeline.video((Shot("a blue sea", 50),)))
    for changed in (
        replace(SETTINGS, seed=6),
        replace(SETTINGS, num_steps=3),
        replace(SETTINGS, guidance_scale=4.0),
        replace(SETTINGS, use_ar=False),
    ):
        assert not np.array_equal(video, pipeline.video(HILL, changed)), changed


def test_a_stopped_run_goes_on_and_gives_the_same(pipeline: Recorded, fresh: Recorded) -> None:
    whole = fresh.video(HILL)
    for _ in islice(pipeline.frames(HILL, SETTINGS), 4):  # up to the third segment
        pass
    assert np.array_equal(pipeline.video(HILL), whole)
    assert pipeline.segments("stored") == [1, 2, 3]
    assert pipeline.segments("denoise") == [4]


def test_without_the_codes_the_rest_is_the_same(pipeline: Recorded, fresh: Recorded) -> None:
    whole = fresh.video(HILL)
    pipeline.video(HILL)
    for kind, path, _ in list(pipeline.store.artifacts()):
        last = pipeline.plan(HILL, SETTINGS)[-1][-1].latents_key
        if kind == "codes" or path.stem == last:
            path.unlink()
    assert np.array_equal(pipeline.video(HILL), whole)
    assert pipeline.segments("stored") == [1, 2, 3]


def test_a_finished_run_renders_nothing_again(pipeline: Recorded) -> None:
    video = pipeline.video(HILL)
    assert np.array_equal(pipeline.video(HILL), video)
    assert pipeline.segments("denoise") == pipeline.segments("draft") == []


@pytest.mark.parametrize("more", [0, 6])
def test_a_longer_video_renders_only_what_is_new(pipeline: Recorded, fresh: Recorded, more: int) -> None:
    short = pipeline.video((Shot("a red hill", 44 + more),))  # three whole segments, and a part of one
    long = pipeline.video((Shot("a red hill", 90),))
    assert pipeline.segments("stored") == [1, 2, 3]
    assert np.array_equal(long[:44], short[:44])
    assert np.array_equal(long, fresh.video((Shot("a red hill", 90),)))


def test_a_changed_shot_renders_from_there_on(pipeline: Recorded) -> None:
    before = pipeline.video((Shot("a red hill", 40), Shot("a blue sea", 40)))
    after = pipeline.video((Shot("a red hill", 40), Shot("snow", 40)))
    kept = len(pipeline.segments("stored"))
    assert kept >= 2
    assert np.array_equal(before[: 12 * kept], after[: 12 * kept])
    assert not np.array_equal(before[40:], after[40:])


def test_a_cut_begins_anew(pipeline: Recorded) -> None:
    grown = pipeline.video((Shot("a red hill", 30), Shot("a blue sea", 30)))
    cut = pipeline.video((Shot("a red hill", 30), Shot("a blue sea", 30, cut=True)))
    other = pipeline.video((Shot("snow", 30), Shot("a blue sea", 30, cut=True)))
    assert len(grown) == len(cut) == 60
    assert np.array_equal(cut[30:], other[30:])  # nothing of the first shot is left
    assert not np.array_equal(grown[30:], cut[30:])


def test_a_redone_segment_and_what_follows_are_new(pipeline: Recorded) -> None:
    before = pipeline.video(HILL)
    after = pipeline.video(HILL, replace(SETTINGS, redo=(3,)))
    assert pipeline.segments("stored") == [1, 2]
    assert pipeline.segments("denoise") == [3, 4]
    assert pipeline.segments("draft") == []
    assert np.array_equal(before[:32], after[:32])
    assert not np.array_equal(before[32:44], after[32:44])
    again = pipeline.video(HILL, replace(SETTINGS, redo=(3, 3)))
    assert not np.array_equal(after[32:44], again[32:44])
    with pytest.raises(InputError, match="no segment 5 to redo; the video has 4"):
        pipeline.plan(HILL, replace(SETTINGS, redo=(5,)))


def test_another_rate_is_told_to_the_dit_and_keeps_the_codes(pipeline: Recorded) -> None:
    usual, video = pipeline.plan(HILL, SETTINGS), pipeline.video(HILL)
    pipeline.config = at_fps(pipeline.config, 12)
    slow = pipeline.video(HILL)
    assert pipeline.segments("draft") == []
    assert pipeline.segments("denoise") == [1, 2, 3, 4]
    assert slow.shape == video.shape
    assert not np.array_equal(slow, video)
    [jobs], [usual_jobs] = pipeline.plan(HILL, SETTINGS), usual
    assert [job.codes_key for job in jobs] == [job.codes_key for job in usual_jobs]
    assert not {job.latents_key for job in jobs} & {job.latents_key for job in usual_jobs}
    assert pipeline.metadata(HILL, SETTINGS).fps == 12
    pipeline.config = at_fps(pipeline.config, 24)
    assert pipeline.plan(HILL, SETTINGS) == usual


def test_drafts_are_held_as_the_preset_says(pipeline: Recorded, fresh: Recorded) -> None:
    sampling = replace(fresh.config.sampling, ar_hold=1e6)
    fresh.config = replace(fresh.config, sampling=sampling)
    assert not np.array_equal(pipeline.video(HILL), fresh.video(HILL))


def test_redo_counts_segments_over_cuts(pipeline: Recorded) -> None:
    shots = (Shot("a red hill", 30), Shot("a blue sea", 30, cut=True))
    plain, redone = (pipeline.plan(shots, replace(SETTINGS, redo=redo)) for redo in ((), (3,)))
    assert len(plain[0]) == 2
    assert plain[0] == redone[0]
    assert plain[1] != redone[1]


def test_shots_may_have_settings_of_their_own(pipeline: Recorded) -> None:
    plain = pipeline.video((Shot("a red hill", 30), Shot("a blue sea", 30)))
    for own in ({"seed": 9}, {"num_steps": 3}, {"guidance_scale": 3.0}):
        changed = pipeline.video((Shot("a red hill", 30), Shot("a blue sea", 30, **own)))  # type: ignore[arg-type]
        assert np.array_equal(changed[:20], plain[:20])
        assert not np.array_equal(changed[40:], plain[40:])
    assert max(event.num_steps for event in pipeline.events) == 2


def test_a_cut_with_a_seed_is_what_that_seed_gives_alone(pipeline: Recorded) -> None:
    both = pipeline.video((Shot("a red hill", 30), Shot("a blue sea", 30, cut=True, seed=9)))
    alone = pipeline.video((Shot("a blue sea", 30),), replace(SETTINGS, seed=9))
    assert np.array_equal(both[30:], alone)


def test_a_preview_drafts_and_denoises_nothing(pipeline: Recorded) -> None:
    shots = (Shot("a red hill", 30), Shot("a blue sea", 25, cut=True))
    preview = np.concatenate(list(pipeline.preview(shots, SETTINGS)))
    assert preview.shape == (55, 32, 32, 3)
    assert pipeline.segments("draft") == [1, 2, 3, 4]
    assert pipeline.segments("denoise") == []
    pipeline.video(shots)
    assert pipeline.segments("draft") == []


def test_overlaps_are_handed_on_as_latents(pipeline: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    seen: list[tuple[torch.Tensor | None, torch.Tensor]] = []
    denoise = Renderer.denoise

    def record(self, requests):  # type: ignore[no-untyped-def]
        (new,) = denoise(self, requests)
        seen.append((requests[0].given, new))
        return [new]

    monkeypatch.setattr(Renderer, "denoise", record)
    pipeline.video(HILL)
    assert seen[0][0] is None
    for (_, before), (given, _) in pairwise(seen):
        assert given is not None
        assert torch.equal(given, before[:, :, -2:])


def test_unknown_words_are_named_once(pipeline: Recorded) -> None:
    pipeline.encode_prompts(["a red dragon", "a dragon under snow", "a castle"])
    assert len(pipeline.warnings) == 1
    assert "dragon, castle" in pipeline.warnings[0]
    pipeline.encode_prompts(["a red hill"])
    assert len(pipeline.warnings) == 1


def test_numbers_that_are_none_are_an_error(pipeline: Recorded) -> None:
    pipeline.parts.dit.final_layer.linear.bias.fill_(float("nan"))
    with pytest.raises(ArlonError, match="Segment 1"):
        pipeline.video(HILL)
    assert not [kind for kind, _, _ in pipeline.store.artifacts() if kind == "latents"]


def test_noise_depends_on_seed_and_segment(tiny_config: ModelConfig) -> None:
    noise = segment_noise(tiny_config, 1, 0)
    assert noise.shape == (1, 4, 5, 4, 4)
    assert torch.equal(noise, segment_noise(tiny_config, 1, 0))
    assert not torch.equal(noise, segment_noise(tiny_config, 1, 1))
    assert not torch.equal(noise, segment_noise(tiny_config, 2, 0))


def test_rescheduled_noise_is_that_of_the_first_segment(tiny_config: ModelConfig) -> None:
    length, overlap = tiny_config.segments.num_latents, tiny_config.segments.overlap
    first = segment_noise(tiny_config, 1, 0)
    segments = [rescheduled_noise(tiny_config, 1, index) for index in range(4)]
    assert torch.equal(segments[0], first)
    for before, after in pairwise(segments):
        assert torch.equal(before[:, :, length - overlap :], after[:, :, :overlap])
        new = {latent.numpy().tobytes() for latent in after[0, :, overlap:].unbind(1)}
        assert new == {latent.numpy().tobytes() for latent in before[0, :, : length - overlap].unbind(1)}
    assert torch.equal(segments[3], rescheduled_noise(tiny_config, 1, 3))


def test_rescheduled_noise_makes_another_video_from_the_second_segment_on(pipeline: Recorded) -> None:
    settings = replace(SETTINGS, use_ar=False)
    one = pipeline.video(HILL, settings)
    other = pipeline.video(HILL, replace(settings, reschedule_noise=True))
    new = 4 * pipeline.config.segments.num_latents
    assert np.array_equal(one[:new], other[:new])
    assert not np.array_equal(one[new:], other[new:])


def test_metadata_names_the_last_segment(pipeline: Recorded) -> None:
    made = pipeline.metadata(HILL, SETTINGS)
    pipeline.video(HILL)
    assert pipeline.store.read("latents", made.last_latents) is not None
    assert (made.seed, made.num_steps, made.model) == (5, 2, "tiny")
