import itertools
import random

import torch

from arlon_cli.dioramas import Scene, sample_scene
from arlon_cli.training.clips import LatentClips, code_windows

FRAMES = 8  # to a code frame


def scenes() -> list[Scene]:
    found = (sample_scene(seed, num_frames=160) for seed in itertools.count())
    return list(itertools.islice((scene for scene in found if len(scene.spans) > 1), 4))


def test_windows_lie_within_one_state_but_for_a_frame_that_is_given() -> None:
    some = scenes()
    clips = LatentClips(torch.empty(0), some, [0] * 4)
    codes = torch.arange(4)[:, None] * 100 + torch.arange(20)  # each says its clip and its place in time
    draw = random.Random(0)
    seen = set()
    for window in (2, 5):
        prompts, windows, num_given = code_windows(
            codes[:, :, None, None], clips, batch=100, window=window, frames_per_code=FRAMES, draw=draw
        )
        assert len(prompts) == len(windows) == len(num_given) == 100
        for place, given in zip(windows[:, :, 0, 0].tolist(), num_given.tolist(), strict=True):
            clip, start = divmod(place[0], 100)
            assert place == list(range(place[0], place[0] + window))
            begin, end = start * FRAMES, (start + window) * FRAMES
            span = next(span for span in some[clip].spans if begin + FRAMES <= span.end and end <= span.end)
            assert begin + FRAMES >= span.start
            assert given == (span.start > 0 and begin < span.start + 36)  # a second and a half
            seen.add((window, given))
    assert seen == {(2, 0), (2, 1), (5, 0), (5, 1)}
