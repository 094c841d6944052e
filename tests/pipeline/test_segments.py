import itertools
from dataclasses import replace

import pytest

from arlon_cli.config import ModelConfig, SegmentConfig
from arlon_cli.pipeline import segments
from arlon_cli.pipeline.segments import Job, Settings, code_spans, plan_jobs, plan_segments, shot_at
from arlon_cli.pipeline.shots import Shot
from arlon_cli.presets import DIORAMA

SETTINGS = Settings(seed=1, num_steps=4, guidance_scale=1.0, use_ar=True)


@pytest.mark.parametrize("config", [SegmentConfig(17, 4), SegmentConfig(5, 2), SegmentConfig(3, 0)])
def test_plans_give_every_latent_once(config: SegmentConfig) -> None:
    for num_latents in range(1, 120):
        segments = plan_segments(num_latents, config)
        new = [latent for s in segments for latent in range(s.start + s.overlap, s.end)]
        assert new == list(range(num_latents))
        assert [s.index for s in segments] == list(range(len(segments)))
        assert all(s.end - s.start == config.num_latents for s in segments[:-1])
        assert all(s.start == before.end - s.overlap for before, s in itertools.pairwise(segments))


def test_600_frames_are_12_segments() -> None:
    assert len(plan_segments(150, DIORAMA.segments)) == 12


def plan(*shots: Shot, settings: Settings = SETTINGS, config: ModelConfig = DIORAMA) -> list[Job]:
    return plan_jobs(shots, settings.seed, settings, config, digest="abc", dtype="float32")


@pytest.mark.parametrize(("short", "long"), [(300, 600), (90, 95), (17, 400)])
def test_a_longer_video_shares_all_whole_segments(short: int, long: int) -> None:
    first, second = plan(Shot("a hill", short)), plan(Shot("a hill", long))
    assert first[:-1] == second[: len(first) - 1]


def test_a_changed_prompt_changes_what_follows_it() -> None:
    before = plan(Shot("a hill", 150), Shot("a sea", 150), Shot("snow", 150))
    after = plan(Shot("a hill", 150), Shot("a sea", 150), Shot("fog", 150))
    same = [a.latents_key == b.latents_key for a, b in zip(before, after, strict=True)]
    changed = same.index(False)
    assert changed > 0
    assert not any(same[changed:])
    assert before[changed - 1].segment.end * 4 <= 300 + 8  # nothing that only shows the first two shots is lost
    assert before[changed].segment.end * 4 > 300


def test_keys_depend_on_the_settings() -> None:
    keys = {
        job[-1].latents_key
        for job in (
            plan(Shot("a hill", 90)),
            plan(Shot("a hill", 90), settings=replace(SETTINGS, seed=2)),
            plan(Shot("a hill", 90), settings=replace(SETTINGS, num_steps=5)),
            plan(Shot("a hill", 90), settings=replace(SETTINGS, guidance_scale=2.0)),
            plan(Shot("a hill", 90), settings=replace(SETTINGS, use_ar=False)),
            plan(Shot("a sea", 90)),
        )
    }
    assert len(keys) == 6


def test_keys_know_a_rate_that_is_not_the_models_own() -> None:
    def told(fps: int | None) -> list[Job]:
        return plan_jobs([Shot("a hill", 90)], 1, SETTINGS, DIORAMA, digest="abc", dtype="float32", fps=fps)

    assert told(None) == plan(Shot("a hill", 90))
    assert len({told(fps)[0].latents_key for fps in (None, 12, 30)}) == 3
    assert len({told(fps)[0].codes_key for fps in (None, 12, 30)}) == 1


def test_what_an_earlier_method_made_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = plan(Shot("a hill", 90))
    monkeypatch.setattr(segments, "METHOD", segments.METHOD - 1)
    before = plan(Shot("a hill", 90))
    for kind in ("codes_key", "latents_key"):
        assert not {getattr(job, kind) for job in now} & {getattr(job, kind) for job in before}


def test_every_code_frame_is_drafted_once_under_its_shot() -> None:
    shots = (Shot("one", 30), Shot("two", 100), Shot("three", 57))
    spans = [span for job in plan(*shots) for span in job.spans]
    codes = [(span.start + i, span.prompt) for span in spans for i in range(span.num_frames)]
    assert [frame for frame, _ in codes] == list(range(-(-187 // 8)))
    assert [prompt for _, prompt in codes] == ["one"] * 4 + ["two"] * 12 + ["three"] * 8
    assert {span.prompt: span.shot_start for span in spans} == {"one": 0, "two": 4, "three": 16}


def test_every_shot_gets_codes() -> None:
    shots = [Shot(str(i), 8 + i % 5) for i in range(20)]
    end = -(-sum(shot.num_frames for shot in shots) // 8)
    assert [span.prompt for span in code_spans(shots, 0, end, 8)] == [str(i) for i in range(20)]


def test_spans_know_the_other_prompt_before_them() -> None:
    shots = [Shot("one", 16), Shot("two", 16), Shot("two", 16), Shot("one", 32)]
    before = [(span.prompt, span.before) for span in code_spans(shots, 3, 10, 8)]
    assert before == [("two", "one"), ("two", None), ("one", "two")]


def test_no_codes_without_ar() -> None:
    assert not any(job.spans for job in plan(Shot("a hill", 200), settings=replace(SETTINGS, use_ar=False)))


def test_the_shot_of_a_frame() -> None:
    shots = (Shot("one", 10), Shot("two", 10))
    assert [shot_at(shots, frame).prompt for frame in (0, 9, 10, 19, 25)] == ["one", "one", "two", "two", "two"]
