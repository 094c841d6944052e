"""The command line around published parts: a tiny copy of the Hub's layout, from `pull` to an mp4, and offline."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from arlon_cli.cli.app import run
from arlon_cli.models.published_t5 import PublishedT5
from arlon_cli.storage.metadata import VideoMetadata
from arlon_cli.storage.video import probe, read_frames, read_metadata


@pytest.fixture
def nothing_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def made(path: Path) -> VideoMetadata:
    found = read_metadata(path)
    assert found is not None
    return found


def test_pull_then_generate_offline(
    tiny_backbone: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_backbone)
    assert run(["models", "pull", model]) == 0
    out, err = capsys.readouterr()
    assert [Path(line).parts[-3] for line in out.splitlines()] == [
        "models--tiny--t5",
        "models--tiny--vae",
        "models--tiny--dit",
    ]
    assert "dit: tiny/dit is here, 0.0 GB in" in err
    command = ["generate", "a red hill", "--model", model, "--no-ar", "--device", "cpu"]
    assert run([*command, "--frames", "75", "-o", "clip.mp4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["num_frames"], result["segments"], result["use_ar"]) == (75, 2, False)
    assert (probe(here / "clip.mp4").num_frames, probe(here / "clip.mp4").width) == (75, 32)
    # a longer one goes on from the first segment, with the prompt's features from the store
    monkeypatch.delattr(PublishedT5, "encode")
    assert run([*command, "--frames", "110", "-o", "long.mp4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_segments"] == 1
    assert probe(here / "long.mp4").num_frames == 110


def test_with_parts_of_arlon_all_commands_run(tiny_arlon: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(tiny_arlon), "--device", "cpu", "--json"]
    assert run(["generate", "a red hill", "--frames", "68", "-o", "clip.mp4", *model]) == 0
    assert run(["extend", "clip.mp4", "--frames", "20", *model]) == 0
    assert run(["encode", "clip.mp4", *model]) == 0
    assert run(["decode", "clip.safetensors", *model]) == 0
    assert run(["generate", "sea", "--codes", "clip.safetensors", "-o", "again.mp4", *model]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["num_frames"] for result in results] == [68, 88, 68, 68, 68]
    assert results[1]["from"] == "plan"
    assert results[2]["codes"] == [5, 2, 2]  # 68 frames are 20 latents, and 4 of these a frame of codes
    [frames] = [list(read_frames(here / "clip-extended.mp4", width=32, height=32))]
    assert len(frames) == 88


def test_a_picture_is_the_first_latent(tiny_backbone: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "generate",
        "a hill",
        "--model",
        str(tiny_backbone),
        "--no-ar",
        "--frames",
        "18",
        "--device",
        "cpu",
        "-q",
    ]
    assert run([*command, "--sheet", "-o", "clip.mp4"]) == 0
    assert run([*command, "--image", "clip.png", "-o", "second.mp4"]) == 0
    assert probe(here / "second.mp4").num_frames == 18
    assert run(["extend", "second.mp4", "--frames", "5", "--model", str(tiny_backbone), "--no-ar", "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["num_frames"], result["from"]) == (23, "latents")


def test_other_sizes(tiny_backbone: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "a hill", "--model", str(tiny_backbone), "--frames", "17", "--device", "cpu", "-q"]
    assert run([*command, "--no-ar", "--size", "144x256", "-o", "clip.mp4"]) == 0
    assert (probe(here / "clip.mp4").width, probe(here / "clip.mp4").height) == (144, 256)
    assert (made(here / "clip.mp4").width, made(here / "clip.mp4").height) == (144, 256)
    assert run(["extend", "clip.mp4", "--frames", "4", "--model", str(tiny_backbone), "-q", "-o", "long.mp4"]) == 0
    assert (probe(here / "long.mp4").width, probe(here / "long.mp4").height) == (144, 256)
    capsys.readouterr()
    assert run(["info", "clip.mp4"]) == 0
    assert "--size 144x256 --fps 24 --model" in capsys.readouterr().out
    for size, message in {
        "640x100": "640x100 is none of the sizes that tiny-opensora was trained at, 144p,",
        "big": "The size 'big' is not of the form WIDTHxHEIGHT",
    }.items():
        assert run([*command, "--no-ar", "--size", size, "-o", "other.mp4"]) == 2
        assert message in capsys.readouterr().err


def test_codes_are_of_one_size(tiny_arlon: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(tiny_arlon), "--frames", "17", "-q"]
    assert run(["generate", "a hill", *model, "-o", "clip.mp4", "--fps", "12"]) == 0
    assert run(["encode", "clip.mp4", *model[:2], "-q"]) == 0
    for codes in ([], ["--codes", "clip.safetensors"]):
        assert run(["generate", "a hill", *model, "--size", "256x144", *codes]) == 2
        assert "drafts codes for 32x32 alone; 256x144 needs --no-ar" in capsys.readouterr().err


def test_a_model_of_one_size_says_so(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "a hill", "--model", str(tiny_checkpoint), "--frames", "4", "-o", "clip.mp4"]
    assert run([*command, "--size", "64x32"]) == 2
    assert "tiny renders 32x32 alone, not 64x32: it was trained at no other size." in capsys.readouterr().err
    assert run([*command, "--size", "32x32"]) == 0


def test_without_parts_of_arlon_two_sentences_say_what_to_do(
    tiny_backbone: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "a hill", "--model", str(tiny_backbone), "-q"]) == 2
    err = capsys.readouterr().err
    assert "ARLON's are missing (latent_vqvae, ar, injection): `--no-ar` renders" in err
    assert "train yours with `arlon train vqvae`, `vqvae --coarse`, `ar` and `dit`" in err
    assert f"the first with `--model {tiny_backbone}`" in err
    assert run(["generate", "a hill", "--model", str(tiny_backbone), "--preview"]) == 2
    assert not list(here.iterdir())
    assert run(["models", "show", str(tiny_backbone)]) == 0
    out = capsys.readouterr().out
    assert "weights: published weights, without parts of ARLON" in out
    assert "injection: not trained yet" in out


@pytest.mark.usefixtures("nothing_pulled")
def test_with_nothing_pulled_everything_points_at_pull(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["generate", "a hill", "--no-ar"], ["generate", "a hill"]):
        assert run([*command, "--model", "opensora-v1.2"]) == 2
        err = capsys.readouterr().err
        assert "no whole copy of DeepFloyd/t5-v1_1-xxl and hpcai-tech/OpenSora-VAE-v1.2 and hpcai-tech" in err
        assert "`arlon models pull opensora-v1.2`" in err
    assert run(["models", "list"]) == 0
    assert "opensora-v1.2: published weights to fetch with `arlon models pull opensora-v1.2`" in capsys.readouterr().out
    assert run(["models", "show", "opensora-v1.2"]) == 0
    assert "dit: hpcai-tech/OpenSora-STDiT-v3: not here, or not whole" in capsys.readouterr().out
    assert run(["models", "pull", "opensora-v1.2"]) == 1
    assert "DeepFloyd/t5-v1_1-xxl is not whole on this machine, and the Hub:" in capsys.readouterr().err
    assert not list(here.iterdir())


@pytest.mark.usefixtures("nothing_pulled")
def test_a_dry_run_explains_the_frames_without_weights(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "a hill", "--model", "opensora-v1.2", "--frames", "731", "--dry-run"]
    assert run(command) == 0
    err = capsys.readouterr().err
    assert "731 frames, 14 segments" in err
    assert "731 = 68 + 13 x 51: a segment has 68 frames, which are 20 latents, and shares 17 frames, 5 latents" in err
    assert "segment 3, from frame 119: codes to draft, 10 steps" in err
    assert "`arlon models pull opensora-v1.2`" in err
    assert run([*command, "--json", "-q"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [segment["first_frame"] for segment in plan["segments"]] == [0, *range(68, 731, 51)]


def test_a_damaged_download_is_told(
    tiny_backbone: Path, offline_hub: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(offline_hub / "models--tiny--dit" / "refs")
    assert run(["generate", "a hill", "--model", str(tiny_backbone), "--no-ar", "--frames", "9"]) == 2
    assert "no whole copy of tiny/dit. `arlon models pull" in capsys.readouterr().err
    assert run(["models", "pull", str(tiny_backbone)]) == 1


def test_models_without_published_parts_have_nothing_to_fetch(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "pull", str(tiny_checkpoint)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is nothing to fetch" in err
