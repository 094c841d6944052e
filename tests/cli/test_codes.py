"""`encode`, `decode`, and `generate` from codes and pictures."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from arlon_cli.cli.app import run
from arlon_cli.storage.codes import read_codes
from arlon_cli.storage.metadata import VideoMetadata
from arlon_cli.storage.video import VideoWriter, probe, read_frames, read_metadata


def clip(path: Path, num_frames: int, *, width: int = 48, height: int = 32, fps: float = 24, seed: int = 0) -> None:
    """Write a video of blocks that change."""
    blocks = np.random.default_rng(seed).integers(0, 255, (num_frames, height // 8, width // 8, 3), np.uint8)
    with VideoWriter(path, width=width, height=height, fps=fps, comment="") as writer:
        writer.write(blocks.repeat(8, axis=1).repeat(8, axis=2))


def error(captured: pytest.CaptureFixture[str]) -> str:
    out, err = captured.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    return err


def pixels(path: Path) -> np.ndarray:
    info = probe(path)
    return np.stack(list(read_frames(path, width=info.width, height=info.height)))


def test_encode_prints_a_path_a_line(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip(here / "one.mp4", 37)
    clip(here / "two.mp4", 30, fps=12, seed=1)
    (here / "codes").mkdir()
    assert run(["encode", "one.mp4", "two.mp4", "-o", "codes", "--model", str(tiny_checkpoint)]) == 0
    assert capsys.readouterr().out == "codes/one.safetensors\ncodes/two.safetensors\n"
    codes, record = read_codes(here / "codes/one.safetensors")
    assert codes.shape == (5, 2, 2)
    assert (record.num_frames, record.source, record.model) == (37, "one.mp4", "tiny")
    assert read_codes(here / "codes/two.safetensors")[1].num_frames == 60
    assert run(["info", "codes/one.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_frames"] == 37


def test_encode_remembers(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from arlon_cli.pipeline.pipeline import Pipeline

    clip(here / "one.mp4", 20)
    assert run(["encode", "one.mp4", "--model", str(tiny_checkpoint), "-q"]) == 0

    def fail(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Pipeline, "encode_codes", fail)
    assert run(["encode", "one.mp4", "-o", "again.safetensors", "--model", str(tiny_checkpoint), "-q"]) == 0
    assert (here / "again.safetensors").read_bytes() == (here / "one.safetensors").read_bytes()


def test_decode_gives_every_frame(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip(here / "one.mp4", 37)
    assert run(["encode", "one.mp4", "--model", str(tiny_checkpoint), "-q"]) == 0
    capsys.readouterr()
    assert run(["decode", "one.safetensors", "--model", str(tiny_checkpoint), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "one-preview.mp4\n"
    info = probe(here / "one-preview.mp4")
    assert (info.num_frames, info.width, info.height, info.fps) == (37, 32, 32, 24.0)
    assert run(["decode", "one.safetensors", "--model", str(tiny_checkpoint)]) == 2
    assert "exists already" in error(capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no file"), (b"", "no video"), (b"Dear", "no video"), ("cut", "cut short"), ("picture", "one frame")],
    ids=["missing", "empty", "text", "truncated", "one frame"],
)
def test_encode_refuses(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, message: str
) -> None:
    file = here / "clip.mp4"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        clip(file, 60 if content == "cut" else 1)
    if content == "cut":
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    for command in (["encode", "clip.mp4"], ["extend", "clip.mp4", "a hill", "--frames", "9"]):
        assert run([*command, "--model", str(tiny_checkpoint), "-q"]) == 2
        assert message in error(capsys)
    assert not [path for path in here.iterdir() if path != file]


def test_encode_refuses_what_would_overwrite(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "other").mkdir()
    for file in ("one.mp4", "two.mp4", "other/one.mp4"):
        clip(here / file, 8)
    (here / "one.safetensors").write_text("mine")
    model = ["--model", str(tiny_checkpoint), "-q"]
    for arguments, message in (
        (["one.mp4"], "exists already"),
        (["two.mp4", "one.mp4"], "exists already"),
        (["two.mp4", "one.mp4", "-o", "codes.safetensors"], "name a folder"),
        (["one.mp4", "other/one.mp4", "-o", "other"], "Several videos"),
        (["two.mp4", "-o", "codes.mp4"], "nor a name that ends in .safetensors"),
        (["two.mp4", "missing.mp4"], "no file missing.mp4"),
    ):
        assert run(["encode", *arguments, *model]) == 2
        assert message in error(capsys)
    assert (here / "one.safetensors").read_text() == "mine"
    assert [path.name for path in here.rglob("*.safetensors")] == ["one.safetensors"]
    assert run(["encode", "one.mp4", "--overwrite", *model]) == 0
    assert read_codes(here / "one.safetensors")[1].num_frames == 8


@pytest.fixture
def other_checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A checkpoint of the same geometry and other weights."""
    folder = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, folder)
    file = folder / "latent_vqvae" / "model.safetensors"
    save_file({name: value + 1 for name, value in load_file(file).items()}, file)
    return folder


def test_codes_of_another_model_are_refused(
    tiny_checkpoint: Path, other_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(here / "one.mp4", 16)
    assert run(["encode", "one.mp4", "--model", str(other_checkpoint), "-q"]) == 0
    capsys.readouterr()
    save_file({"weights": torch.zeros(3)}, here / "weights.safetensors")
    for command in (["decode"], ["generate", "a hill", "-o", "clip.mp4", "--codes"]):
        for file, message in (
            ("one.safetensors", "codes of the model tiny"),
            ("weights.safetensors", "not made by `arlon encode`"),
            ("one.mp4", "no codes"),
            ("missing.safetensors", "no file missing.safetensors"),
        ):
            assert run([*command, file, "--model", str(tiny_checkpoint)]) == 2
            assert message in error(capsys)
    assert not (here / "clip.mp4").exists()


def test_generate_from_codes(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("one", "two")):
        clip(here / f"{name}.mp4", 37, seed=seed)
    assert run(["encode", "one.mp4", "two.mp4", "--model", str(tiny_checkpoint), "-q"]) == 0
    generate = ["generate", "a red hill", "--model", str(tiny_checkpoint), "-q"]
    for name in ("one", "two"):
        assert run([*generate, "--codes", f"{name}.safetensors", "-o", f"of-{name}.mp4"]) == 0
    assert run([*generate, "--frames", "37", "-o", "drafted.mp4"]) == 0
    one, two, drafted = (pixels(here / name) for name in ("of-one.mp4", "of-two.mp4", "drafted.mp4"))
    assert len(one) == len(two) == 37
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, drafted)
    made = read_metadata(here / "of-one.mp4")
    assert made is not None
    assert (made.codes, made.num_frames) == ("one.safetensors", 37)
    capsys.readouterr()
    assert run(["info", "of-one.mp4"]) == 0
    assert "--codes one.safetensors" in capsys.readouterr().out


def test_codes_may_be_shorter_or_longer_than_the_video(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(here / "one.mp4", 37)
    assert run(["encode", "one.mp4", "--model", str(tiny_checkpoint), "-q"]) == 0
    generate = ["generate", "a red hill", "--codes", "one.safetensors", "--model", str(tiny_checkpoint), "-q"]
    for frames in (9, 37, 70):
        assert run([*generate, "--frames", str(frames), "-o", f"{frames}.mp4"]) == 0
        assert probe(here / f"{frames}.mp4").num_frames == frames
    capsys.readouterr()
    assert run([*generate, "--no-ar"]) == 2
    assert "--no-ar" in error(capsys)


def test_generate_from_a_picture(tiny_checkpoint: Path, here: Path) -> None:
    Image.new("RGB", (50, 40), (200, 30, 60)).save(here / "red.png")
    Image.new("RGB", (50, 40), (20, 30, 200)).save(here / "blue.png")
    generate = ["generate", "a red hill", "--frames", "22", "--model", str(tiny_checkpoint), "-q"]
    videos = {}
    for name in ("red", "blue"):
        assert run([*generate, "--image", f"{name}.png", "-o", f"{name}.mp4"]) == 0
        videos[name] = pixels(here / f"{name}.mp4")
        assert len(videos[name]) == 22
    assert run([*generate, "--image", "red.png", "--no-ar", "-o", "without.mp4"]) == 0
    assert np.array_equal(pixels(here / "without.mp4")[0], videos["red"][0])  # the picture as the VAE has it
    assert not np.array_equal(videos["red"][0], videos["blue"][0])
    assert not np.array_equal(videos["red"][12], videos["blue"][12])
    made = read_metadata(here / "red.mp4")
    assert isinstance(made, VideoMetadata)
    assert made.image == "red.png"


@pytest.mark.parametrize(("content", "message"), [(None, "no file"), (b"", "no picture"), (b"Dear", "no picture")])
def test_wrong_pictures(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    if content is not None:
        (here / "p.png").write_bytes(content)
    assert run(["generate", "a hill", "--image", "p.png", "-q", "-o", "c.mp4", "--model", str(tiny_checkpoint)]) == 2
    assert message in error(capsys)
    assert not (here / "c.mp4").exists()


def test_codes_and_pictures_with_the_other_options(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(here / "one.mp4", 37)
    Image.new("RGB", (40, 30), (200, 30, 90)).save(here / "picture.png")
    model = ["--model", str(tiny_checkpoint)]
    assert run(["encode", "one.mp4", "-q", *model]) == 0
    given = ["generate", "a red hill", "--codes", "one.safetensors", "--image", "picture.png", "-q", *model]
    assert run([*given, "-o", "plain.mp4"]) == 0
    assert run([*given, "-o", "clip.mp4", "--preview", "--sheet", "--redo", "1"]) == 0
    assert run(["decode", "one.safetensors", "-o", "codes.mp4", *model]) == 0
    assert np.array_equal(pixels(here / "clip-preview.mp4"), pixels(here / "codes.mp4"))
    assert (here / "clip.png").is_file()
    assert probe(here / "clip.mp4").num_frames == 37
    assert not np.array_equal(pixels(here / "clip.mp4"), pixels(here / "plain.mp4"))
    capsys.readouterr()
    assert run([*given, "--redo", "1", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["segments"]
    assert all(segment["stored"] and segment["codes_stored"] is None for segment in plan["segments"])
    assert (plan["codes"], plan["image"]) == ("one.safetensors", "picture.png")
    assert run(["info", "clip.mp4", "--json"]) == 0
    again = shlex.split(json.loads(capsys.readouterr().out)["again"])[1:]
    again[again.index("--model") + 1] = str(tiny_checkpoint)
    again[again.index("-o") + 1] = "again.mp4"
    assert run(again) == 0
    assert (here / "again.mp4").read_bytes() == (here / "clip.mp4").read_bytes()


def test_a_video_all_in_the_picture_is_planned_and_previewed(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30), (200, 30, 90)).save(here / "picture.png")
    still = ["generate", "a red hill", "--image", "picture.png", "--frames", "3", "--model", str(tiny_checkpoint)]
    assert run([*still, "--dry-run", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == []
    assert run([*still, "-o", "clip.mp4", "--preview", "-q"]) == 0
    assert probe(here / "clip-preview.mp4").num_frames == probe(here / "clip.mp4").num_frames == 3
