"""Dioramas are pure functions of (scene, frame), legal, and alive."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from arlon_cli.dioramas import ATTRIBUTES, FAMILIES, render, sample_scene


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_in_range_and_move(family: str) -> None:
    scene = sample_scene(3, family=family, num_frames=64)
    clip = render([scene], torch.tensor([0, 12, 40]), size=48)
    assert clip.shape == (1, 3, 3, 48, 48)
    assert clip.isfinite().all() and clip.min() >= 0 and clip.max() <= 1
    assert clip.std() > 0.02
    assert (clip[0, 0] - clip[0, 1]).abs().max() > 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_alone_is_the_frame_in_a_batch(family: str) -> None:
    scenes = [sample_scene(seed, family=family, num_frames=96) for seed in (5, 6)]
    batch = render(scenes, torch.arange(0, 60, 6), size=32)
    again = render(scenes[1:], torch.tensor([42]), size=32)
    torch.testing.assert_close(batch[1, 7], again[0, 0], atol=2e-4, rtol=0)
    assert torch.equal(batch, render(scenes, torch.arange(0, 60, 6), size=32))


@pytest.mark.parametrize("size", [40, 56])
def test_any_size(size: int) -> None:
    for family in FAMILIES:
        assert render([sample_scene(1, family=family, num_frames=8)], torch.tensor([7]), size).shape[-1] == size


def test_a_change_shows_only_after_it_begins() -> None:
    seen = set()
    for seed in range(200):
        scene = sample_scene(seed, num_frames=96)
        if len(scene.spans) == 1 or scene.family in seen:
            continue
        seen.add(scene.family)
        before, after = scene.spans
        never = replace(scene, spans=(replace(before, end=scene.num_frames),))
        frames = torch.tensor([0, after.start, 95])
        changing, steady = render([scene, never], frames, size=32)
        torch.testing.assert_close(changing[:2], steady[:2], atol=2e-4, rtol=0)
        assert (changing[2] - steady[2]).abs().max() > 0.02, scene.family
    assert seen == set(FAMILIES)


@pytest.mark.parametrize(("num_frames", "most"), [(40, 1), (256, 2), (600, 4), (1500, 10)])
def test_spans_cover_the_clip_with_legal_attributes(num_frames: int, most: int) -> None:
    counts = set()
    for seed in range(300):
        scene = sample_scene(seed, num_frames=num_frames)
        assert scene == sample_scene(seed, num_frames=num_frames)
        assert scene.spans[0].start == 0 and scene.spans[-1].end == num_frames
        counts.add(len(scene.spans))
        for span in scene.spans:
            assert span.attributes.keys() == ATTRIBUTES.keys()
            assert all(span.attributes[name] in values for name, values in ATTRIBUTES.items())
            assert not (span.attributes["weather"] == "storm" and span.attributes["state"] == "calm")
        for before, after in pairwise(scene.spans):
            assert before.end == after.start
            assert before.attributes != after.attributes
            assert after.end - after.start > 2 * (after.settled - after.start) or num_frames < 100
    assert counts == {1, most}


def test_of_several_changes_each_shows() -> None:
    scene = sample_scene(4, family="sailboat", num_frames=600, changing=True)
    assert len(scene.spans) == 4
    frames = torch.tensor([span.end - 1 for span in scene.spans])
    changing = render([scene], frames, size=32)[0]
    for index, span in enumerate(scene.spans):
        steady = replace(scene, spans=(replace(span, start=0, end=600),))
        torch.testing.assert_close(changing[index], render([steady], frames, size=32)[0, index], atol=1e-3, rtol=0)
