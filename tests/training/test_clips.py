import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arlon_cli.config import ModelConfig, VideoVAEConfig
from arlon_cli.dioramas import COUNTED, Scene, mentioned, render, sample_scene
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training.clips import (
    BATCHES,
    ClipKind,
    LatentClips,
    also_half_a_code_later,
    code_batches,
    read_clips,
    write_clips,
)

FRAMES = 8  # to a code frame


def scenes() -> list[Scene]:
    found = (sample_scene(seed, num_frames=160) for seed in itertools.count())
    return list(itertools.islice((scene for scene in found if len(scene.spans) > 1), 4))


PLACES = torch.arange(4)[:, None, None, None] * 100 + torch.arange(20)[:, None, None]  # codes that say where they are


def windows_of(codes: Tensor, clips: LatentClips, **options: Any) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """All that is drawn at once."""
    prompts, *tensors = zip(*code_batches(codes, clips, frames_per_code=FRAMES, **options), strict=True)
    windows, num_given, ended = (torch.cat(parts) for parts in tensors)
    return list(itertools.chain(*prompts)), windows, num_given, ended


def test_windows_lie_within_one_state_but_for_frames_that_are_given() -> None:
    some = scenes()
    clips = LatentClips(torch.empty(0), some, [0] * 4)
    draw = random.Random(0)
    seen = set()
    for window in (2, 5):
        prompts, windows, num_given, ended = windows_of(
            PLACES, clips, batch=50, window=window, draw=draw, anchored=False
        )
        assert len(prompts) == len(windows) == len(num_given) == 200
        assert torch.equal(ended, num_given)  # what does not look as the caption says belongs to another
        for place, given in zip(windows[:, :, 0, 0].tolist(), num_given.tolist(), strict=True):
            clip, start = divmod(place[0], 100)
            assert place == list(range(place[0], place[0] + window))
            begin, end = start * FRAMES, (start + window) * FRAMES
            span = next(span for span in some[clip].spans if end <= span.end)
            before = sum(begin + i * FRAMES < span.start for i in range(window))  # that do not begin within the state
            assert before <= min(3, window - 1)
            settling = span.start > 0 and begin < span.start + 36  # a second and a half
            assert given == (before or settling)
            seen.add((window, given))
    assert seen == {(2, 0), (2, 1), (5, 0), (5, 1), (5, 2), (5, 3)}


def test_captions_of_a_batch_are_about_as_long_as_each_other() -> None:
    clips = LatentClips(torch.empty(0), scenes(), [0] * 4)
    batches = code_batches(
        PLACES, clips, batch=50, window=2, frames_per_code=FRAMES, draw=random.Random(0), anchored=False
    )
    lengths = sorted([len(prompt.split()) for prompt in prompts] for prompts, *_ in batches)
    assert [len(some) for some in lengths] == [50] * BATCHES
    assert all(max(shorter) <= min(longer) for shorter, longer in itertools.pairwise(lengths))
    assert lengths[0] != lengths[-1]


def test_captions_of_windows_that_begin_before_a_change_tell_it() -> None:
    some = scenes()
    clips = LatentClips(torch.empty(0), some, [0] * 4)
    prompts, windows, *_ = windows_of(PLACES, clips, batch=50, window=4, draw=random.Random(0), anchored=False)
    tells: dict[bool, list[bool]] = {False: [], True: []}
    for prompt, first in zip(prompts, windows[:, 0, 0, 0].tolist(), strict=True):
        clip, start = divmod(first, 100)
        before, after = some[clip].spans
        if (start + 4) * FRAMES > after.start:  # it is the later state's
            changed = {name for name, value in after.attributes.items() if before.attributes[name] != value}
            tells[start * FRAMES < after.start].append(changed <= mentioned(prompt, after.attributes))
    assert sum(tells[True]) > 0.9 * len(tells[True]) > 20
    assert sum(tells[False]) < 0.9 * len(tells[False])  # captions leave things out


def test_an_anchor_is_an_earlier_frame_of_the_same_state() -> None:
    some = scenes()
    clips = LatentClips(torch.empty(0), some, [0] * 4)
    _, windows, num_given, ended = windows_of(PLACES, clips, batch=50, window=4, draw=random.Random(0), anchored=True)
    anchored = windows[:, 1, 0, 0] - windows[:, 0, 0, 0] > 1
    assert 20 < anchored.sum() < 100
    assert (num_given[anchored] == 2).all()
    assert not ended[anchored].any()
    assert (windows[:, 1:-1] + 1 == windows[:, 2:]).all()
    for anchor, last in windows[anchored][:, (0, -1), 0, 0].tolist():
        spans = some[anchor // 100].spans
        (span,) = (span for span in spans if span.settled <= anchor % 100 * FRAMES < span.end)
        assert anchor // 100 == last // 100
        assert (last % 100 + 1) * FRAMES <= span.end


WHOLE, START, CHANGE = ClipKind(160, 160), ClipKind(160, 16), ClipKind(160, 56, lead=8)


def test_each_kind_of_clip_lies_where_it_should() -> None:
    for seed in range(60):
        assert WHOLE.start(WHOLE.scene(seed)) == 0
        scene = START.scene(seed)
        start = START.start(scene)
        assert any(span.settled <= start and start + 16 <= span.end for span in scene.spans)
        scene = CHANGE.scene(seed)
        if len(scene.spans) == 2:
            assert CHANGE.start(scene) == scene.spans[1].start - 8
            assert scene.spans[1].settled + 8 <= CHANGE.start(scene) + 56 <= 160  # it arrives
    assert not any(len(CHANGE.scene(seed).spans) == 2 for seed in range(1, 60, 2))
    assert sum(len(CHANGE.scene(seed).spans) == 2 for seed in range(0, 60, 2)) > 25
    assert 20 < sum(len(WHOLE.scene(seed).spans) == 2 for seed in range(60)) < 40


def test_families_of_a_kind_take_turns() -> None:
    kind = ClipKind(160, 8, families=COUNTED)
    scenes = [kind.scene(seed) for seed in range(40)]
    assert tuple(scene.family for scene in scenes) == COUNTED * 20
    assert {scene.spans[0].attributes["count"] for scene in scenes} == {"one", "two", "three", "many"}


@pytest.mark.parametrize("kind", [WHOLE, START, CHANGE])
def test_clips_are_of_their_scenes(tmp_path: Path, tiny_config: ModelConfig, kind: ClipKind) -> None:
    torch.manual_seed(0)
    assert isinstance(tiny_config.video_vae, VideoVAEConfig)
    vae = VideoVAE(tiny_config.video_vae).eval()
    write_clips(
        vae,
        tmp_path,
        kind,
        image_size=16,
        first=7,
        seconds=1e9,
        most=8,
        device=torch.device("cpu"),
        precision=torch.float32,
        stop=lambda: False,
    )
    clips = read_clips(tmp_path, kind, torch.device("cpu"))
    assert [scene.seed for scene in clips.scenes] == list(range(7, 15))
    assert clips.starts == [kind.start(kind.scene(seed)) for seed in range(7, 15)]
    for scene, start, latents in zip(clips.scenes, clips.starts, clips.latents, strict=True):
        frames = render([scene], torch.arange(start, start + kind.length), 16, torch.device("cpu"))
        with torch.inference_mode():
            expected = vae.encode((frames * 255).round().transpose(1, 2) / 127.5 - 1)[0].half()
        assert torch.equal(latents, expected)


def test_clips_come_again_half_a_code_later() -> None:
    some, latents = scenes(), torch.arange(11.0).view(1, 1, 11, 1, 1).repeat(4, 1, 1, 1, 1)
    twice = also_half_a_code_later(LatentClips(latents, some, [0, 8, 0, 8]), 4, 4)
    assert twice.latents.flatten(1).tolist() == [list(range(8))] * 4 + [list(range(2, 10))] * 4
    assert twice.scenes == some + some
    assert twice.starts == [0, 8, 0, 8, 8, 16, 8, 16]


def test_a_start_is_told_by_the_state_that_it_shows() -> None:
    some = scenes()
    starts = [scene.spans[index % 2].settled for index, scene in enumerate(some)]
    clips = LatentClips(torch.empty(0), some, starts)
    codes = torch.arange(4)[:, None].expand(4, 2)[:, :, None, None]
    prompts, windows, num_given, _ = windows_of(codes, clips, batch=10, window=2, draw=random.Random(0), anchored=True)
    assert not num_given.any()  # all look as they are told
    told = {(clip, prompt) for clip, prompt in zip(windows[:, 0, 0, 0].tolist(), prompts, strict=True)}
    states = [scene.spans[index % 2].attributes for index, scene in enumerate(some)]
    other = [scene.spans[1 - index % 2].attributes for index, scene in enumerate(some)]
    assert {clip for clip, _ in told} == set(range(4))
    for clip, prompt in told:
        assert len(mentioned(prompt, states[clip])) >= len(mentioned(prompt, other[clip]))
