"""What a user can get wrong: one line that says so, the right exit code, and nothing written, changed or lost."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from arlon_cli.cli.app import run
from arlon_cli.cli.options import output_path
from arlon_cli.config import SegmentConfig
from arlon_cli.errors import InputError
from arlon_cli.pipeline.segments import Settings, plan_jobs
from arlon_cli.pipeline.shots import Shot, check_shots, frames_of
from arlon_cli.presets import DIORAMA
from arlon_cli.storage.video import VideoWriter

LONG = "a" * 300


def _tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Changes the tensors of a checkpoint's DiT."""

    def damage(checkpoint: Path) -> None:
        file = checkpoint / "dit" / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return damage


def _config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Changes a checkpoint's config.json."""

    def damage(checkpoint: Path) -> None:
        config = json.loads((checkpoint / "config.json").read_text())
        change(config)
        (checkpoint / "config.json").write_text(json.dumps(config))

    return damage


def _cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:size])  # type: ignore[func-returns-value]


def _pickle(checkpoint: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, checkpoint / "ar" / "model.safetensors")


BIAS = "final_layer.linear.bias"
CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a tensor is missing": (_tensors(lambda t: t.pop(BIAS)), f"lacks the tensor {BIAS}"),
    "a tensor too many": (_tensors(lambda t: t.update(more=torch.zeros(2))), "has the tensor more"),
    "a tensor of another shape": (_tensors(lambda t: t.update({BIAS: torch.zeros(2)})), f"{BIAS} has shape (2,)"),
    "a pickle": (_pickle, "model.safetensors is damaged"),
    "weights cut short": (_cut("dit/model.safetensors", 500), "model.safetensors is damaged"),
    "empty weights": (_cut("ar/model.safetensors", 0), "model.safetensors is damaged"),
    "no weights": (lambda c: (c / "ar" / "model.safetensors").unlink(), "lacks the file"),
    "no tokenizer": (lambda c: (c / "text_encoder" / "tokenizer.json").unlink(), "lacks the file"),
    "a tokenizer cut short": (_cut("text_encoder/tokenizer.json", 50), "tokenizer.json is damaged"),
    "no config": (lambda c: (c / "config.json").unlink(), "no config.json"),
    "an empty config": (_cut("config.json", 0), "config.json is not JSON"),
    "a binary config": (lambda c: (c / "config.json").write_bytes(b"\xff\xfe"), "Could not read"),
    "a config that is a list": (lambda c: (c / "config.json").write_text("[]"), "expected an object"),
    "a nested config": (lambda c: (c / "config.json").write_text("[" * 20_000), "not JSON"),
    "a config without a field": (_config(lambda c: c.pop("fps")), "missing fps"),
    "a config with a field too many": (_config(lambda c: c.update(depth=3)), "unknown depth"),
    "a config of another type": (_config(lambda c: c.update(fps="many")), 'fps is "many", which is no int'),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_damaged_checkpoint(name: str, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = CHECKPOINTS[name]
    shutil.copytree(tiny_checkpoint, here / "weights")
    damage(here / "weights")
    assert run(["generate", "a hill", "--frames", "4", "--model", "weights", "-q"]) == 2
    assert message in only_error(capsys)
    assert {path.name for path in here.iterdir()} == {"weights"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder with things to stumble over."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "folder.mp4").mkdir()
    (folder / "empty").mkdir()
    with VideoWriter(folder / "video.mp4", width=16, height=16, fps=24, comment="") as writer:
        writer.write(np.zeros((3, 16, 16, 3), np.uint8))
    (folder / "short.mp4").write_bytes((folder / "video.mp4").read_bytes()[:300])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    (folder / "sheet.png").write_text("mine")
    (folder / "old-preview.mp4").write_text("mine")
    (folder / "board.yaml").write_text("shots: [{prompt: a hill, frames: 9}]")
    (folder / "tabs.yaml").write_text("shots:\n- prompt: a\n\tframes: 9")
    (folder / "twice.yaml").write_text("shots:\n- prompt: a\n  prompt: b\n  frames: 9")
    (folder / "unknown.yaml").write_text("shots:\n- {prompt: a, frames: 9, speed: 3}")
    (folder / "bomb.yaml").write_text("a: &a [x, x]\nb: &b [*a, *a]\nshots: [*b]")
    (folder / "python.yaml").write_text("shots:\n- {prompt: !!python/name:os.system '', frames: 9}")
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "empty.yaml").touch()
    (folder / "middle.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n{"prompt": "b"}\n')
    (folder / "field.jsonl").write_text('{"prompt": "a", "colour": 1}\n')
    (folder / "binary.txt").write_bytes(b"\xff\xfe\xfa")
    (folder / "empty.txt").touch()
    (folder / "store").write_text("mine")
    return folder


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path of a folder and its content."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def only_error(captured: pytest.CaptureFixture[str]) -> str:
    """The error, which is one line on stderr with nothing on stdout."""
    out, err = captured.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "Unexpected" not in err
    assert len(err) < 500
    return err


GENERATE = [
    ([], "Missing argument"),
    ([""], "prompt is empty"),
    ([" \n "], "prompt is empty"),
    (["a" * 100_000], "has 100000 characters"),
    (["a hill\x07"], "U+0007"),
    (["a \x1b[31mhill"], "U+001B"),
    (["a \x85 hill"], "U+0085"),
    (["a \udcff hill"], "U+DCFF"),
    (["a hill", "a sea"], "unexpected extra argument"),
    (["a hill", "--frames", "0"], "number of frames is 0"),
    (["a hill", "--frames", "-5"], "number of frames is -5"),
    (["a hill", "--frames", "1000000000000"], "number of frames is 1000000000000"),
    (["a hill", "--frames", "many"], "--frames"),
    (["a hill", "--frames", "9.5"], "--frames"),
    (["a hill", "--frames", "9" * 5000], "--frames"),
    (["a hill", "--frames", "9", "--seconds", "2"], "either --frames or --seconds"),
    (["a hill", "--seconds", "0"], "0 seconds is no length"),
    (["a hill", "--seconds", "-1"], "-1 seconds"),
    (["a hill", "--seconds", "nan"], "nan seconds"),
    (["a hill", "--seconds", "inf"], "inf seconds"),
    (["a hill", "--seconds", "1e12"], "seconds is no length"),
    (["a hill", "--steps", "0"], "--steps is 0"),
    (["a hill", "--steps", "1001"], "--steps is 1001"),
    (["a hill", "--seed", "-1"], "--seed is -1"),
    (["a hill", "--seed", str(2**70)], "--seed is"),
    (["a hill", "--seed", "x"], "--seed"),
    (["a hill", "--guidance", "nan"], "--guidance is nan"),
    (["a hill", "--guidance", "inf"], "--guidance is inf"),
    (["a hill", "--guidance", "-1"], "--guidance is -1"),
    (["a hill", "--guidance", "101"], "--guidance is 101"),
    (["a hill", "--reuse", "nan"], "--reuse is nan"),
    (["a hill", "--reuse", "-0.1"], "--reuse is -0.1"),
    (["a hill", "--fps", "0"], "0 frames a second cannot be rendered; a rate lies between 1 and 60"),
    (["a hill", "--fps", "61"], "61 frames a second"),
    (["a hill", "--model", ""], "name is empty"),
    (["a hill", "--fps", "23.98"], "--fps"),
    (["a hill", "--redo", "0"], "no segment 0"),
    (["a hill", "--frames", "9", "--redo", "2"], "no segment 2 to redo; the video has 1"),
    (["a hill", "--preview", "--no-ar"], "--preview"),
    (["a hill", "--overwrite", "--skip-existing"], "either --overwrite or --skip-existing"),
    (["a hill", "--device", "abacus"], "no device 'abacus'"),
    (["a hill", "--device", "cuda:99"], "no device 'cuda:99'"),
    (["a hill", "--device", ""], "no device ''"),
    (["a hill", "--dtype", "float3"], "'float3' is unknown"),
    (["a hill", "--colour", "red"], "--colour"),
    (["a hill", "-o", "clip.avi"], "clip.avi is neither a folder"),
    (["a hill", "-o", "nowhere/clip.mp4"], "no folder nowhere"),
    (["a hill", "-o", "folder.mp4/x.txt"], "neither"),
    (["a hill", "-o", "video.mp4"], "video.mp4 exists already"),
    (["a hill", "-o", "video.mp4/clip.mp4"], "no folder video.mp4"),
    (["a hill", "-o", f"{LONG}.mp4"], "File name too long"),
    (["a hill", "-o", "sheet.mp4", "--sheet"], "sheet.png exists already"),
    (["a hill", "-o", "old.mp4", "--preview"], "old-preview.mp4 exists already"),
    (["a hill", "--model", "dragon"], "There are no weights for 'dragon'"),
    (["a hill", "--model", "empty"], "is no checkpoint"),
    (["a hill", "--model", "video.mp4"], "is no checkpoint"),
]
OTHERS = [
    (["paint"], "paint"),
    (["storyboard"], "Missing argument"),
    (["storyboard", "nothing.yaml"], "Could not read nothing.yaml"),
    (["storyboard", "empty"], "Could not read empty: Is a directory"),
    (["storyboard", f"{LONG}.yaml"], "File name too long"),
    (["storyboard", "video.mp4"], "video.mp4"),
    (["storyboard", "empty.yaml"], "no list `shots`"),
    (["storyboard", "tabs.yaml"], "tabs.yaml, line 3: not valid YAML: a tab"),
    (["storyboard", "twice.yaml"], "twice.yaml, line 3: shot 1: prompt is given twice"),
    (["storyboard", "unknown.yaml"], "unknown.yaml, line 2: shot 1: unknown field 'speed'"),
    (["storyboard", "bomb.yaml"], "bomb.yaml, line 2: the alias *a"),
    (["storyboard", "python.yaml"], "tag python/name:os.system"),
    (["storyboard", "binary.yaml"], "no UTF-8"),
    (["storyboard", "board.yaml", "--seed", "-1"], "--seed is -1"),
    (["storyboard", "board.yaml", "--fps", "0"], "0 frames a second"),
    (["storyboard", "board.yaml", "-o", "video.mp4"], "video.mp4 exists already"),
    (["batch"], "Missing argument"),
    (["batch", "nothing.txt"], "Could not read nothing.txt"),
    (["batch", "nothing"], "neither .txt"),
    (["batch", "video.mp4"], "neither .txt"),
    (["batch", "empty"], "empty holds no jobs"),
    (["batch", "empty.txt"], "empty.txt holds no jobs"),
    (["batch", "binary.txt"], "no UTF-8"),
    (["batch", "middle.jsonl"], "middle.jsonl, line 2: it is not valid JSON"),
    (["batch", "field.jsonl"], "field.jsonl, line 1: unknown field 'colour'"),
    (["batch", "board.yaml", "--fps", "0"], "0 frames a second"),
    (["batch", "board.yaml", "-o", "video.mp4"], "video.mp4 cannot be the folder"),
    (["batch", "board.yaml", "-o", "nowhere/out"], "nowhere/out cannot be the folder"),
    (["batch", "board.yaml", "--overwrite", "--skip-existing"], "either"),
    (["batch", "board.yaml", "--device", "abacus"], "no device 'abacus'"),
    (["batch", "board.yaml", "--size", "64x64"], "tiny renders 32x32 alone"),
    (["extend"], "Name a video"),
    (["extend", "nothing.mp4", "a hill"], "no file nothing.mp4"),
    (["extend", "text.mp4", "a hill"], "text.mp4 is no video"),
    (["extend", "folder.mp4", "a hill"], "folder.mp4"),
    (["extend", "video.mp4"], "does not say what it shows"),
    (["extend", "video.mp4", " "], "prompt is empty"),
    (["extend", "video.mp4", "a hill", "--frames", "0"], "number of frames is 0"),
    (["extend", "video.mp4", "a hill", "--guidance", "nan"], "--guidance is nan"),
    (["extend", "video.mp4", "a hill", "--reuse", "2"], "--reuse is 2"),
    (["extend", "video.mp4", "a hill", "-o", "video.mp4", "--overwrite"], "never overwritten"),
    (["extend", "video.mp4", "a hill", "--model", "dragon"], "There are no weights for 'dragon'"),
    (["encode"], "Missing argument"),
    (["encode", "nothing.mp4"], "no file nothing.mp4"),
    (["encode", "short.mp4"], "short.mp4 is no video"),
    (["encode", "video.mp4", "-o", "nowhere/codes.safetensors"], "no folder nowhere"),
    (["decode"], "Missing argument"),
    (["decode", "nothing.safetensors"], "nothing.safetensors"),
    (["decode", "text.mp4"], "text.mp4"),
    (["generate", "a hill", "--codes", "text.mp4"], "text.mp4"),
    (["generate", "a hill", "--codes", "text.mp4", "--no-ar"], "give one of them"),
    (["generate", "a hill", "--image", "text.mp4"], "text.mp4"),
    (["info"], "Missing argument"),
    (["info", "nothing.mp4"], "no file nothing.mp4"),
    (["info", "empty.mp4"], "empty.mp4 is no video"),
    (["info", "text.mp4"], "text.mp4 is no video"),
    (["info", "short.mp4"], "short.mp4 is no video"),
    (["info", "empty"], "empty is no checkpoint"),
    (["models", "show", "dragon"], "'dragon'"),
    (["cache", "prune", "--size", "much"], "'much' is no size"),
    (["train", "diorama", "-o", "run", "--minutes", "nan"], "--minutes is nan"),
    (["train", "diorama", "-o", "run", "--minutes", "-3"], "--minutes is -3"),
    (["train", "diorama", "-o", "run", "--seed", "-3"], "--seed is -3"),
]


_WITH_MODEL = ("generate", "storyboard", "batch", "extend", "encode", "decode")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["generate", *arguments], message) for arguments, message in GENERATE] + OTHERS,
    ids=lambda value: ascii(" ".join(value)[:40]) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_2(
    arguments: list[str],
    message: str,
    tiny_checkpoint: Path,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    if arguments[0] in _WITH_MODEL and "--model" not in arguments:
        arguments = [arguments[0], "--model", str(tiny_checkpoint), *arguments[1:]]
    before = snapshot(world)
    assert run(arguments) == 2
    assert message in only_error(capsys)
    assert snapshot(world) == before


@pytest.mark.parametrize(
    ("variable", "value", "message", "code"),
    [
        ("ARLON_CACHE_SIZE", "much", "'much' is no size", 2),
        ("ARLON_CACHE_DIR", "store", "Could not write to the store at store", 1),
        ("ARLON_CACHE_DIR", "/proc/arlon", "Could not write to the store at /proc/arlon", 1),
        ("ARLON_OUTPUT", "/proc", "/proc", 1),
        ("ARLON_OUTPUT", "nowhere", "nowhere is neither a folder", 2),
        ("ARLON_STEPS", "many", "ARLON_STEPS", 2),
        ("ARLON_MODEL", "dragon", "There are no weights for 'dragon'", 2),
    ],
)
def test_a_wrong_environment(
    variable: str,
    value: str,
    message: str,
    code: int,
    tiny_checkpoint: Path,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("ARLON_MODEL", str(tiny_checkpoint))
    monkeypatch.setenv(variable, value)
    before = snapshot(world)
    assert run(["generate", "a hill", "--frames", "9", "-q"]) == code
    assert message in only_error(capsys)
    assert snapshot(world) == before


def test_a_folder_that_may_not_be_written() -> None:
    child = os.fork()
    if child == 0:  # as a user who owns nothing, for root may write everywhere
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            output_path(Path("/clip.mp4"), "clip.mp4", overwrite=False)
        except InputError as error:
            os._exit(7 if "You may not write" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("prompt", ["🌋 erupts 🔥", "a hill\n\tunder snow", "-- a hill", "火山", "'; rm -rf / #"])
def test_odd_prompts_that_are_right(
    prompt: str, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "--frames", "1", "--model", str(tiny_checkpoint), "-q", "--", prompt]) == 0
    [video] = here.iterdir()
    assert capsys.readouterr().out == f"{video.name}\n"


def test_an_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="even width and height, not 31x32"):
        VideoWriter(tmp_path / "clip.mp4", width=31, height=32, fps=24, comment="")


@given(st.floats(), st.integers(1, 240))
def test_frames_of_any_time(seconds: float, fps: int) -> None:
    try:
        num_frames = frames_of(seconds, fps)
    except InputError:
        assert not 0 < seconds * fps <= 10_000_000
    else:
        assert num_frames >= 1
        assert abs(num_frames - seconds * fps) <= 1


LENGTHS = st.lists(st.tuples(st.integers(-3, 400), st.booleans()), min_size=1, max_size=6)


@given(LENGTHS, st.integers(2, 20), st.integers(0, 6), st.booleans())
def test_segments_of_any_shots(lengths: list[tuple[int, bool]], size: int, overlap: int, use_ar: bool) -> None:
    config = replace(DIORAMA, segments=SegmentConfig(size, min(overlap, size - 1)))
    try:
        shots = check_shots([Shot(str(number), frames) for number, (frames, _) in enumerate(lengths)])
    except InputError:
        least = 1 if len(lengths) == 1 else 8
        assert min(frames for frames, _ in lengths) < least
        return
    jobs = plan_jobs(shots, 1, Settings(1, 4, 1.0, use_ar), config, digest="abc", dtype="float32")
    num_frames = sum(shot.num_frames for shot in shots)
    shown = [latent for job in jobs for latent in range(job.segment.start + job.segment.overlap, job.segment.end)]
    assert shown == list(range(-(-num_frames // 4)))
    assert len({job.latents_key for job in jobs}) == len(jobs)
    drafted = [span.start + i for job in jobs for span in job.spans for i in range(span.num_frames)]
    assert drafted == (list(range(-(-len(shown) // 2))) if use_ar else [])
