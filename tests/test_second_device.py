"""What works on a CPU works on a device beside it: nothing is left behind, and the results are the same."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from second_device import DEVICE, Memory, second_device
from torch import nn

from arlon_cli.cli import speed
from arlon_cli.cli.app import run
from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench.ceilings import Ceilings
from arlon_cli.evaluation.bench.stages import measure_stages
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.progress import Progress
from arlon_cli.pipeline.reference import NO_REFERENCE
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.presets import PRESETS
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store

CPU = torch.device("cpu")
SHOTS = (Shot("a hill", 24), Shot("a lake", 20))
RENDERING = ("text_encoder", "ar", "latent_vqvae", "dit", "video_vae")
LARGE = ("ar", "dit", "video_vae")


@pytest.fixture
def memory() -> Iterator[Memory]:
    with second_device() as memory:
        yield memory


def open_on(device: torch.device, checkpoint: Path, store: Path, offload: bool = False) -> Pipeline:
    return Pipeline(
        Checkpoint(checkpoint), device=device, dtype=torch.float32, store=Store(store, 10**9), offload=offload
    )


def rendered(pipeline: Pipeline, settings: Settings) -> np.ndarray:
    return np.concatenate(list(pipeline.frames(SHOTS, settings)))


def test_the_devices_are_apart(memory: Memory) -> None:
    there = torch.ones(3).to(DEVICE)
    assert (there * 2).device == torch.empty(3, device="cuda").device == there[1:].device == DEVICE
    assert (there.cpu() + torch.ones(3)).device == torch.zeros(3).to(DEVICE).to("cpu").device == CPU
    assert memory.now == 12
    with pytest.raises(RuntimeError, match="on the CPU and on the device"):
        there + torch.ones(3)
    with pytest.raises(TypeError):
        there.numpy()
    del there
    assert (memory.now, memory.peak >= 24) == (0, True)


@pytest.mark.parametrize("settings", [Settings(0, 2, 1.0, use_ar=True), Settings(0, 2, 3.0, use_ar=False)])
def test_renders_the_same(tiny_checkpoint: Path, tmp_path: Path, settings: Settings) -> None:
    expected = rendered(open_on(CPU, tiny_checkpoint, tmp_path / "cpu"), settings)
    with second_device():
        pipeline = open_on(DEVICE, tiny_checkpoint, tmp_path / "device")
        np.testing.assert_array_equal(rendered(pipeline, settings), expected)
        preview = np.concatenate(list(pipeline.preview(SHOTS, settings))) if settings.use_ar else expected
        codes, _ = pipeline.encode_codes(expected)
        assert len(preview) == sum(map(len, pipeline.decode_codes(codes, len(expected)))) == len(expected)


def test_videos_share_passes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    settings = Settings(0, 2, 3.0, use_ar=True)
    videos = [((shot,), settings, NO_REFERENCE) for shot in SHOTS]
    on_cpu = open_on(CPU, tiny_checkpoint, tmp_path / "cpu")
    on_cpu.render_ahead(videos)
    with second_device():
        open_on(DEVICE, tiny_checkpoint, tmp_path / "device").render_ahead(videos)
    files = [
        {path.name: path.read_bytes() for _, path, _ in Store(tmp_path / name, 10**9).artifacts()}
        for name in ("cpu", "device")
    ]
    assert files[0] == files[1]
    assert len(files[0]) > 4


def test_published_parts_render_the_same_and_take_turns(tiny_arlon: Path, tmp_path: Path) -> None:
    settings = Settings(0, 2, 3.0, use_ar=True)
    expected = rendered(open_on(CPU, tiny_arlon, tmp_path / "cpu"), settings)
    seen: list[tuple[str, set[str]]] = []
    with second_device() as memory:
        pipeline = open_on(DEVICE, tiny_arlon, tmp_path / "device", offload=True)

        def there(part: nn.Module) -> bool:
            return any(tensor in memory for tensor in part.state_dict().values())

        def note(now: Progress) -> None:
            loaded = pipeline.parts._loaded
            seen.append((now.stage, {name for name in LARGE if name in loaded and there(loaded[name])}))

        pipeline.on_progress = note
        np.testing.assert_array_equal(rendered(pipeline, settings), expected)
    assert all(len(parts) <= 1 for _, parts in seen)
    assert all(parts == {"dit"} for stage, parts in seen if stage == "denoise")
    assert {name for _, parts in seen for name in parts} >= {"dit", "video_vae"}


def test_goes_on_from_any_video(tiny_checkpoint: Path, videos: Path, here: Path, memory: Memory) -> None:
    model = ("--model", str(tiny_checkpoint), "--device", "cuda", "--dtype", "float32")
    assert run(["extend", str(videos / "red.mp4"), "a hill", "--frames", "20", "-o", "longer.mp4", *model]) == 0
    assert run(["extend", "longer.mp4", "--frames", "20", "-o", "longest.mp4", *model]) == 0
    assert run(["evaluate", "longest.mp4", *model]) == 0
    assert memory.peak > 0


@pytest.mark.parametrize("part", ["vae", "vqvae", "ar", "dit"])
def test_trains(part: str, tiny_checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    command = ["train", part, str(videos), "--model", str(tiny_checkpoint), "--steps", "2", "--batch", "2"]
    for device in ("cpu", "cuda"):
        with second_device() as memory:
            assert run([*command, "-o", str(tmp_path / device), "--device", device, "--dtype", "float32"]) == 0
        assert (memory.peak > 0) == (device == "cuda")
    cpu, other = (next((tmp_path / device).rglob("metrics.jsonl")).read_text() for device in ("cpu", "cuda"))
    assert json.loads(cpu.splitlines()[-1]) == json.loads(other.splitlines()[-1])


def test_measures_what_each_part_takes_alone(tiny_checkpoint: Path, memory: Memory) -> None:
    checkpoint = Checkpoint(tiny_checkpoint)
    ballast = torch.zeros(10**7).to(DEVICE)  # there while the first part is loaded, and gone before the others

    def load(part: str) -> nn.Module:
        nonlocal ballast
        ballast = ballast[:1].clone()
        return checkpoint.load(part, DEVICE, torch.float32)

    *stages, writer = measure_stages(load, RENDERING, checkpoint.config, "a hill", DEVICE, repeats=1)
    assert writer.peak_memory_gb is None
    for part, stage in zip(RENDERING, stages, strict=True):
        assert stage.peak_memory_gb is not None
        weights = sum(tensor.nbytes for tensor in checkpoint.tensors(part).values())
        assert weights < 1e9 * stage.peak_memory_gb < weights + 10**7, part


def test_peaks_are_told_beside_what_was_predicted(
    tiny_config: ModelConfig, memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny_config)
    monkeypatch.setattr(speed, "measure_ceilings", lambda *arguments: Ceilings(1.0, 1.0, 1.0))
    command = [
        "bench",
        "--preset",
        "tiny",
        "--random",
        "--repeats",
        "1",
        "--device",
        "cuda",
        "--dtype",
        "float32",
        "-q",
    ]
    assert run(command) == 0
    assert "Peak memory, GB" in capsys.readouterr().out
    assert run([*command, "--compare", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "a GPU"
    measured = {stage["name"]: stage["peak_memory_gb"] for stage in found["stages"]}
    assert measured["DiT"] == pytest.approx(found["predicted_peak_gb"]["denoise"], rel=0.15)
