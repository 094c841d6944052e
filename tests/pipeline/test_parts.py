"""Which parts are on the device at which stage."""

from pathlib import Path

import pytest
import torch
from second_device import DEVICE, second_device
from torch import nn

from arlon_cli.pipeline.parts import Parts
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.progress import Progress
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store

CPU = torch.device("cpu")
LARGE = {"ar", "dit", "video_vae"}


@pytest.mark.parametrize("offload", [False, True])
def test_large_parts_take_turns_where_they_rest(tiny_checkpoint: Path, tmp_path: Path, offload: bool) -> None:
    seen: dict[str, set[str]] = {}

    def note(now: Progress) -> None:
        seen.setdefault(now.stage, set()).update(pipeline.parts.on_device & LARGE)

    pipeline = Pipeline(
        Checkpoint(tiny_checkpoint),
        device=CPU,
        dtype=torch.float32,
        store=Store(tmp_path, 10**9),
        offload=offload,
        on_progress=note,
    )
    frames = list(pipeline.frames([Shot("a hill", 50)], Settings(0, 2, 1.0, use_ar=True)))
    assert sum(map(len, frames)) == 50
    assert seen["denoise"] == ({"dit"} if offload else LARGE)
    assert pipeline.parts.on_device & LARGE == ({"video_vae"} if offload else LARGE)


def test_resting_changes_nothing(tiny_checkpoint: Path) -> None:
    checkpoint = Checkpoint(tiny_checkpoint)
    parts = Parts(checkpoint, CPU, torch.float32, offload=True)
    vae = parts.use("video_vae")
    parts.use("dit")
    assert parts.on_device == {"dit"}
    pieces = list(parts.feed("video_vae", [torch.zeros(1)] * 2))
    assert len(pieces) == 2
    assert parts.on_device == {"video_vae"}
    assert parts.use("video_vae") is vae
    parts.use_once("text_encoder")
    assert not parts.on_device


def test_what_rests_is_off_the_device_and_comes_back_as_it_was(tiny_checkpoint: Path) -> None:
    parts = Parts(Checkpoint(tiny_checkpoint), DEVICE, torch.float32, offload=True)
    before = Checkpoint(tiny_checkpoint).load("video_vae", CPU, torch.float32).state_dict()

    def is_there(module: nn.Module) -> bool:
        (there,) = {tensor in memory for tensor in module.state_dict().values()}
        return there

    with second_device() as memory:
        vae = parts.use("video_vae")
        assert is_there(vae)
        dit = parts.use("dit")
        assert (is_there(vae), is_there(dit)) == (False, True)
        parts.use("video_vae")
        assert (is_there(vae), is_there(dit)) == (True, False)
        assert all(torch.equal(tensor.cpu(), before[name]) for name, tensor in vae.state_dict().items())
