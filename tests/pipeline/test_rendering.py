from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arlon_cli.errors import ArlonError
from arlon_cli.pipeline.denoising import Request, denoise
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.progress import Progress
from arlon_cli.pipeline.reference import NO_REFERENCE, Reference
from arlon_cli.pipeline.rendering import Renderer
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store

SETTINGS = Settings(seed=5, num_steps=2, guidance_scale=3.0, use_ar=True)
HILL, SEA = (Shot("a red hill", 50),), (Shot("a blue sea", 33), Shot("snow", 20, cut=True))

Video = tuple[Sequence[Shot], Settings, Reference]


def opened(checkpoint: Path, store: Path, dtype: torch.dtype = torch.float32) -> Pipeline:
    return Pipeline(Checkpoint(checkpoint), device=torch.device("cpu"), dtype=dtype, store=Store(store, 10**9))


def of(*shots: Sequence[Shot], settings: Settings = SETTINGS) -> list[Video]:
    return [(some, settings, NO_REFERENCE) for some in shots]


def latents(pipeline: Pipeline, videos: Sequence[Video]) -> list[Tensor]:
    """The stored latents of all segments, in turn."""
    keys = [job.latents_key for video in videos for jobs in pipeline.plan(*video) for job in jobs]
    return [pipeline.store.read("latents", key)["latents"] for key in keys]  # type: ignore[index]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Request]]:
    """What is denoised together, as it happens."""
    seen: list[Sequence[Request]] = []
    denoise = Renderer.denoise

    def record(self: Renderer, requests: Sequence[Request]) -> list[Tensor]:
        seen.append(requests)
        return denoise(self, requests)

    monkeypatch.setattr(Renderer, "denoise", record)
    return seen


@pytest.mark.parametrize("use_ar", [True, False])
def test_videos_that_share_passes_are_what_they_are_alone(
    tiny_checkpoint: Path, tmp_path: Path, use_ar: bool, passes: list[Sequence[Request]]
) -> None:
    videos = of(HILL, SEA, settings=replace(SETTINGS, use_ar=use_ar))
    alone, together = opened(tiny_checkpoint, tmp_path / "alone"), opened(tiny_checkpoint, tmp_path / "together")
    for video in videos:
        alone.render_ahead([video])
    assert {len(requests) for requests in passes} == {1}
    passes.clear()
    together.render_ahead(videos)
    assert sum(len(requests) == 2 for requests in passes) >= 2
    torch.testing.assert_close(latents(together, videos), latents(alone, videos), atol=1e-5, rtol=1e-4)
    passes.clear()
    for video in videos:
        frames = np.concatenate(list(together.frames(*video))).astype(int)
        assert abs(frames - np.concatenate(list(alone.frames(*video)))).max() <= 1
    assert not passes


def test_what_else_is_in_a_pass_changes_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pipeline = opened(tiny_checkpoint, tmp_path, torch.bfloat16)
    (one,), (other,), (third,) = (pipeline.plan(*video)[0][:1] for video in of(HILL, SEA, (Shot("snow", 50),)))
    texts = pipeline.encode_prompts([one.prompt, other.prompt, third.prompt])
    noise = torch.Generator().manual_seed(0)
    requests = [
        Request(job, texts[job.prompt], torch.randn(1, 4, 5, 4, 4, generator=noise), None)
        for job in (one, other, third)
    ]

    @torch.inference_mode()
    def last(*places: int) -> Tensor:
        *_, x_0 = denoise(pipeline.parts.dit, pipeline.config, [requests[place] for place in places])
        return x_0

    assert torch.equal(last(0, 1)[0], last(0, 2)[0])
    assert torch.equal(last(1, 2)[1], last(0, 2)[1])
    torch.testing.assert_close(last(0, 1)[0], last(1, 0)[1], atol=0.05, rtol=0.05)
    assert not torch.allclose(last(0, 1)[0], last(0, 1)[1], atol=0.5)


def test_a_stopped_run_goes_on_and_gives_the_same(
    tiny_checkpoint: Path, tmp_path: Path, passes: list[Sequence[Request]]
) -> None:
    videos = of(HILL, SEA, (Shot("snow", 70),))
    whole, stopped = opened(tiny_checkpoint, tmp_path / "whole"), opened(tiny_checkpoint, tmp_path / "stopped")
    whole.render_ahead(videos)
    texts_at_once = [[request.text[0] for request in requests] for requests in passes]
    stopped.render_ahead(videos)
    passes.clear()
    for video, kept in zip(videos, (1, 3, 2), strict=True):
        for job in [job for jobs in stopped.plan(*video) for job in jobs][kept:]:
            stopped.store.path("latents", job.latents_key).unlink()
    resumed = opened(tiny_checkpoint, tmp_path / "stopped")
    resumed.render_ahead(videos)
    assert all(map(torch.equal, latents(resumed, videos), latents(whole, videos)))
    assert passes
    for requests in passes:  # over the same texts, also of what is stored: how many words are seen rounds
        texts = [request.text[0] for request in requests]
        assert any(len(texts) == len(own) and all(map(torch.equal, texts, own)) for own in texts_at_once)
    events: list[Progress] = []
    resumed.on_progress = events.append
    for video in videos:
        list(resumed.frames(*video))
    assert sum(event.stage == "stored" for event in events) == 1 + 3 + 2  # what it made itself, it did not find


def test_unlike_segments_share_no_pass(tiny_checkpoint: Path, tmp_path: Path, passes: list[Sequence[Request]]) -> None:
    pipeline = opened(tiny_checkpoint, tmp_path)
    shots = [(Shot(prompt, 20),) for prompt in ("a hill", "snow", "a sea", "a red hill", "a blue sea", "a red sea")]
    changes: list[dict[str, object]] = [{}, {"num_steps": 3}, {"guidance_scale": 2.0}, {"use_ar": False}, {}, {}]
    changes[4:] = [{"reuse": 0.2}, {"reuse": 0.2}]
    videos: list[Video] = [
        (some, replace(SETTINGS, **change), NO_REFERENCE)  # type: ignore[arg-type]
        for some, change in zip(shots, changes, strict=True)
    ]
    pipeline.render_ahead([*videos, *of((Shot("a hill under snow", 9),))])
    assert len(passes) == 7


def test_less_is_shared_where_memory_does_not_allow_it(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = opened(tiny_checkpoint, tmp_path)
    videos = of(*((Shot(prompt, 37),) for prompt in ("a hill", "snow", "a sea", "a red hill", "a blue sea")))
    counts: list[int] = []
    denoise = Renderer.denoise

    def small(self: Renderer, requests: Sequence[Request]) -> list[Tensor]:
        counts.append(len(requests))
        if len(requests) > limit:
            raise torch.OutOfMemoryError("There is no more.")
        return denoise(self, requests)

    monkeypatch.setattr(Renderer, "denoise", small)
    limit = 2
    pipeline.render_ahead(videos)
    assert counts == [5, 2, 2, 1] * 3
    assert len(latents(pipeline, videos)) == 15
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        pipeline.render_ahead(of(SEA))


def test_numbers_that_are_none_are_an_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pipeline = opened(tiny_checkpoint, tmp_path)
    pipeline.parts.dit.final_layer.linear.bias.fill_(float("nan"))
    with pytest.raises(ArlonError, match="Segment 1"):
        pipeline.render_ahead(of(HILL, SEA))
    assert not [kind for kind, _, _ in pipeline.store.artifacts() if kind == "latents"]


def test_progress_ends_where_all_is_done(tiny_checkpoint: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    pipeline = opened(tiny_checkpoint, tmp_path)
    pipeline.on_progress = events.append
    pipeline.render_ahead(of((Shot("a hill", 1),), (Shot("snow", 9), Shot("a sea", 9, cut=True))))
    assert [event.num_frames for event in events] == sorted(event.num_frames for event in events)
    assert all(event.num_frames <= event.total_frames == 19 for event in events)
    assert events[-1].segment == events[-1].num_segments
    assert {event.stage for event in events} == {"text", "draft", "denoise"}
    assert not any(parameter.is_inference() for parameter in pipeline.parts.dit.parameters())
