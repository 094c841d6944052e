import io
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arlon_cli.cli.app import run
from arlon_cli.cli.info import remake_command
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.rendering import Renderer
from arlon_cli.presets import DIORAMA
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.metadata import ShotRecord, VideoMetadata
from arlon_cli.storage.video import VideoWriter, probe, read_metadata
from arlon_cli.storage.weights import find_weights


def generate(checkpoint: Path, *arguments: str) -> int:
    return run(["generate", "a red hill", "--model", str(checkpoint), "--device", "cpu", *arguments])


def test_the_path_alone_is_on_stdout(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tiny_checkpoint, "--frames", "22", "--seed", "3") == 0
    out, err = capsys.readouterr()
    assert out == "a-red-hill-3.mp4\n"
    assert "Segment 2 of 2" in err
    assert probe(here / "a-red-hill-3.mp4").num_frames == 22


def test_json_and_quiet(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tiny_checkpoint, "--seconds", "0.5", "--json", "-q", "-o", "clip.mp4") == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert (result["path"], result["num_frames"], result["seed"]) == ("clip.mp4", 12, 0)


def test_unknown_words_warn_and_render(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a dragon", "--model", str(tiny_checkpoint), "--frames", "4"]) == 0
    assert "never saw this word: dragon; `arlon models show tiny`" in capsys.readouterr().err


def test_an_existing_file_stays(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "clip.mp4").write_text("mine")
    assert generate(tiny_checkpoint, "--frames", "4", "-o", "clip.mp4") == 2
    assert (here / "clip.mp4").read_text() == "mine"
    assert generate(tiny_checkpoint, "--frames", "4", "-o", "clip.mp4", "--overwrite") == 0
    assert probe(here / "clip.mp4").num_frames == 4


def test_an_interrupted_run_goes_on_to_the_same_file(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARLON_CACHE_DIR", str(here / "other"))
    assert generate(tiny_checkpoint, "--frames", "50", "-o", "whole.mp4") == 0
    monkeypatch.setenv("ARLON_CACHE_DIR", str(here / "cache"))
    denoise = Renderer.denoise

    def stop(self, requests):  # type: ignore[no-untyped-def]
        if requests[0].job.segment.index == 2:
            raise KeyboardInterrupt
        return denoise(self, requests)

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "denoise", stop)
        capsys.readouterr()
        assert generate(tiny_checkpoint, "--frames", "50", "-o", "clip.mp4", "-q") == 130
        out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "same command goes on" in err
    assert {path.name for path in here.iterdir() if path.is_file()} == {"whole.mp4"}
    assert generate(tiny_checkpoint, "--frames", "50", "-o", "clip.mp4", "--json", "-q") == 0
    assert json.loads(capsys.readouterr().out)["resumed_segments"] == 2
    assert (here / "clip.mp4").read_bytes() == (here / "whole.mp4").read_bytes()


def test_a_storyboard(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "defaults: {seed: 4}\nshots: [{prompt: a hill, frames: 20}, {prompt: sea, seconds: 1}]\n"
    (here / "board.yaml").write_text(text)
    assert run(["storyboard", "board.yaml", "--model", str(tiny_checkpoint), "-q"]) == 0
    assert capsys.readouterr().out == "board-4.mp4\n"
    assert probe(here / "board-4.mp4").num_frames == 44
    made = read_metadata(here / "board-4.mp4")
    assert made is not None
    assert [(shot.prompt, shot.num_frames) for shot in made.shots] == [("a hill", 20), ("sea", 24)]


def test_info_gives_the_command_that_makes_it_again(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tiny_checkpoint, "--frames", "9", "--no-ar", "--guidance", "2.5", "-o", "clip.mp4", "-q") == 0
    capsys.readouterr()
    assert run(["info", "clip.mp4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["num_frames"], facts["guidance"], facts["codes"]) == (9, 2.5, "none")
    again = shlex.split(facts["again"])[1:]
    again[again.index("--model") + 1] = str(tiny_checkpoint)
    again[again.index("-o") + 1] = "again.mp4"
    assert run(again) == 0
    frames = [read_metadata(here / name) for name in ("clip.mp4", "again.mp4")]
    assert frames[0] == frames[1]
    assert (here / "clip.mp4").read_bytes() == (here / "again.mp4").read_bytes()


def test_reuse_is_another_video_and_recorded(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--frames", "9", "--no-ar", "--steps", "8", "-q"]
    assert generate(tiny_checkpoint, *common, "-o", "all.mp4") == 0
    assert generate(tiny_checkpoint, *common, "--reuse", "0.5", "-o", "some.mp4") == 0
    assert (here / "all.mp4").read_bytes() != (here / "some.mp4").read_bytes()
    capsys.readouterr()
    assert run(["info", "some.mp4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["reuse"] == 0.5
    assert "--reuse 0.5" in facts["again"]


def test_another_rate(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tiny_checkpoint, "--seconds", "2", "--fps", "12", "--preview", "-o", "clip.mp4", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["num_frames"], result["fps"]) == (24, 12)
    for name in ("clip.mp4", "clip-preview.mp4"):
        found = probe(here / name)
        assert (found.num_frames, found.fps) == (24, 12.0)
    assert run(["info", "clip.mp4", "--json"]) == 0
    again = shlex.split(json.loads(capsys.readouterr().out)["again"])[1:]
    again[again.index("--model") + 1] = str(tiny_checkpoint)
    again[again.index("-o") + 1] = "again.mp4"
    assert run(again) == 0
    assert (here / "clip.mp4").read_bytes() == (here / "again.mp4").read_bytes()
    assert generate(tiny_checkpoint, "--frames", "24", "-o", "usual.mp4", "--json", "-q") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["fps"] == 24
    assert run(["encode", "usual.mp4", "--model", str(tiny_checkpoint), "-q"]) == 0
    assert generate(tiny_checkpoint, "--codes", "usual.safetensors", "--fps", "12", "-o", "slow.mp4", "-q") == 0
    assert (probe(here / "slow.mp4").num_frames, probe(here / "slow.mp4").fps) == (24, 12.0)


def test_seconds_of_a_storyboard_count_in_the_rate(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "board.yaml").write_text("shots: [{prompt: a hill, seconds: 1}, {prompt: sea, frames: 9}]")
    options = ["--fps", "10", "--model", str(tiny_checkpoint), "-q"]
    assert run(["storyboard", "board.yaml", "-o", "clip.mp4", *options]) == 0
    assert run(["batch", "board.yaml", "-o", "out", *options]) == 0
    assert (probe(here / "clip.mp4").num_frames, probe(here / "clip.mp4").fps) == (19, 10.0)
    assert (here / "out" / "board-0.mp4").read_bytes() == (here / "clip.mp4").read_bytes()
    capsys.readouterr()
    assert run(["batch", "board.yaml", "-o", "out", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"]
    assert run(["batch", "board.yaml", "-o", "out", *options[2:]]) == 1  # at the model's own rate, another video


MADE = VideoMetadata(
    version="1",
    model="diorama",
    model_digest="abc",
    shots=(ShotRecord("a hill", 9, cut=False),),
    seed=0,
    num_steps=4,
    guidance_scale=1.0,
    use_ar=True,
    width=DIORAMA.width,
    height=DIORAMA.height,
    fps=DIORAMA.fps,
    dtype="float32",
    last_latents="",
)


def test_what_makes_a_presets_video_again_names_what_is_not_its_own() -> None:

    usual = remake_command(MADE, Path("clip.mp4"))
    assert usual is not None
    assert "--fps" not in usual
    assert "--size" not in usual
    assert "--fps 12 --model" in str(remake_command(replace(MADE, fps=12), Path("clip.mp4")))
    added = ShotRecord("more", 9, cut=False, added=True)
    often = remake_command(replace(MADE, shots=MADE.shots + 3000 * (added,)), Path("clip.mp4"))
    assert str(often).count("arlon extend") == 3000


def test_info_knows_the_model_that_is_installed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for digest, model in ((Checkpoint(find_weights("diorama")).digest, "diorama"), ("abc", "CHECKPOINT-abc")):
        made = replace(MADE, model_digest=digest)
        with VideoWriter(here / "clip.mp4", width=32, height=32, fps=24, comment=made.to_json()) as writer:
            writer.write(np.zeros((9, 32, 32, 3), np.uint8))
        assert run(["info", "clip.mp4", "--json"]) == 0
        assert f"--model {model} " in json.loads(capsys.readouterr().out)["again"]


def test_a_file_that_appears_meanwhile_stays(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode = Pipeline.decode

    def late(self, latents):  # type: ignore[no-untyped-def]
        (here / "clip.mp4").write_text("mine")
        return decode(self, latents)

    monkeypatch.setattr(Pipeline, "decode", late)
    assert generate(tiny_checkpoint, "--frames", "9", "-o", "clip.mp4") == 1
    assert "clip.mp4 was not there before, and is kept" in capsys.readouterr().err
    assert (here / "clip.mp4").read_text() == "mine"
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]
    assert generate(tiny_checkpoint, "--frames", "9", "-o", "clip.mp4", "--overwrite") == 0
    assert probe(here / "clip.mp4").num_frames == 9


def test_a_sheet_never_takes_the_place_of_the_picture_given(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), "red").save(here / "hill.png")
    before = (here / "hill.png").read_bytes()
    options = ("--frames", "9", "--image", "hill.png", "-o", "hill.mp4", "--sheet", "--overwrite")
    assert generate(tiny_checkpoint, *options) == 2
    assert "hill.png is the picture that the video starts from" in capsys.readouterr().err
    assert (here / "hill.png").read_bytes() == before


def test_info_prints_no_codes_that_a_terminal_obeys(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = replace(MADE, shots=(ShotRecord("a hill\x1b[2J\rgone", 9, cut=False),))
    with VideoWriter(here / "clip.mp4", width=32, height=32, fps=24, comment=made.to_json()) as writer:
        writer.write(np.zeros((9, 32, 32, 3), np.uint8))
    assert run(["info", "clip.mp4"]) == 0
    shown = capsys.readouterr().out
    assert "a hill\ufffd[2J\ufffdgone (9 frames)" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_info_gives_the_storyboard_that_makes_it_again(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
defaults: {seed: 4, frames: 20}
shots:
- prompt: "a 'red' \\u2028 hill: #1, 火山 🌋"
- {prompt: sea, cut: true, seed: 7, steps: 3, guidance: 1.5}
"""
    (here / "board.yaml").write_text(text)
    assert run(["storyboard", "board.yaml", "--model", str(tiny_checkpoint), "--redo", "2", "-o", "clip.mp4"]) == 0
    capsys.readouterr()
    assert run(["info", "clip.mp4", "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["again"]
    printed, _, rest = command.rpartition(" | ")
    board = subprocess.run(["bash", "-c", printed], capture_output=True, check=True).stdout
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(board)))
    again = shlex.split(rest)[1:]
    again[again.index("--model") + 1] = str(tiny_checkpoint)
    again[again.index("-o") + 1] = "again.mp4"
    assert run(again) == 0
    assert (here / "clip.mp4").read_bytes() == (here / "again.mp4").read_bytes()


def test_a_shot_wins_over_flags_and_flags_over_the_file(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "defaults: {frames: 9, steps: 3, seed: 1}\nshots: [{prompt: a hill}, {prompt: sea, cut: true, steps: 4}]"
    (here / "board.yaml").write_text(text)
    monkeypatch.setenv("ARLON_STEPS", "5")

    def steps(*arguments: str) -> list[int]:
        assert (
            run(["storyboard", "board.yaml", "--model", str(tiny_checkpoint), "--dry-run", "--json", *arguments]) == 0
        )
        return [segment["steps"] for segment in json.loads(capsys.readouterr().out)["segments"]]

    assert steps() == [3, 4]
    assert steps("--steps", "2") == [2, 4]
    (here / "board.yaml").write_text(text.replace("steps: 3, ", ""))
    assert steps() == [5, 4]


def test_without_codes_there_are_more_steps(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def steps(*arguments: str) -> set[int]:
        assert generate(tiny_checkpoint, "--frames", "22", "--dry-run", "--json", *arguments) == 0
        return {segment["steps"] for segment in json.loads(capsys.readouterr().out)["segments"]}

    assert (steps(), steps("--no-ar"), steps("--no-ar", "--steps", "1")) == ({2}, {3}, {1})


def test_a_dry_run_shows_what_there_is_to_do(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tiny_checkpoint, "--frames", "22", "-o", "short.mp4", "-q") == 0
    capsys.readouterr()
    monkeypatch.setattr(Checkpoint, "load", None)  # nothing is loaded
    assert generate(tiny_checkpoint, "--frames", "50", "--dry-run") == 0
    out, err = capsys.readouterr()
    assert out == "a-red-hill-0.mp4\n"
    assert "50 frames, 4 segments, 1 in the store; about 0:0" in err
    assert "segment 2, from frame 20: codes to draft, 2 steps: a red hill" in err
    assert generate(tiny_checkpoint, "--frames", "50", "--dry-run", "--json", "--steps", "9") == 0
    plan = json.loads(capsys.readouterr().out)
    assert [segment["first_frame"] for segment in plan["segments"]] == [0, 20, 32, 44]
    assert [segment["codes_stored"] for segment in plan["segments"]] == [True, False, False, False]
    assert plan["estimated_seconds"] is None
    assert {path.name for path in here.iterdir()} == {"short.mp4"}


def test_a_dry_run_says_what_is_there_already(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "clip.mp4").write_text("mine")
    assert generate(tiny_checkpoint, "--frames", "30", "-o", "clip.mp4", "--dry-run") == 0
    assert "clip.mp4 exists already" in capsys.readouterr().err
    assert (here / "clip.mp4").read_text() == "mine"


def test_a_preview_comes_first_and_stays_when_the_run_is_stopped(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "denoise", stop)
        assert generate(tiny_checkpoint, "--frames", "30", "--preview", "-o", "clip.mp4") == 130
    assert [path.name for path in here.iterdir()] == ["clip-preview.mp4"]
    assert run(["info", "clip-preview.mp4"]) == 0
    assert "--fps 24 --model CHECKPOINT-" in (shown := capsys.readouterr().out)
    assert "a checkpoint that is not installed here" in shown
    assert shown.endswith(" -o clip.mp4 -- 'a red hill'\n") and "--preview --size 32x32" in shown
    first = (here / "clip-preview.mp4").stat()
    assert generate(tiny_checkpoint, "--frames", "30", "--preview", "-o", "clip.mp4") == 0
    assert (here / "clip-preview.mp4").stat().st_mtime_ns == first.st_mtime_ns
    assert probe(here / "clip-preview.mp4").num_frames == probe(here / "clip.mp4").num_frames == 30
    (here / "clip.mp4").unlink()
    capsys.readouterr()
    assert generate(tiny_checkpoint, "--frames", "31", "--preview", "-o", "clip.mp4") == 2
    assert "clip-preview.mp4 exists already" in capsys.readouterr().err


def test_a_sheet_beside_the_video(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tiny_checkpoint, "--frames", "30", "--sheet", "-o", "clip.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sheet"] == "clip.png"
    with Image.open(here / "clip.png") as sheet:
        assert sheet.size == (6 * 32, 4 * 32)
    (here / "clip.mp4").unlink()
    assert generate(tiny_checkpoint, "--frames", "30", "--sheet", "-o", "clip.mp4") == 2


def test_skip_existing_touches_nothing(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "clip.mp4").write_text("mine")
    assert generate(tiny_checkpoint, "-o", "clip.mp4", "--skip-existing") == 0
    assert capsys.readouterr().out == "clip.mp4\n"
    assert (here / "clip.mp4").read_text() == "mine"
    assert generate(tiny_checkpoint, "-o", "clip.mp4", "--skip-existing", "--overwrite") == 2


def test_redo_makes_another_video_and_says_so(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tiny_checkpoint, "--frames", "30", "-o", "one.mp4") == 0
    assert generate(tiny_checkpoint, "--frames", "30", "-o", "two.mp4", "--redo", "2") == 0
    assert (here / "one.mp4").read_bytes() != (here / "two.mp4").read_bytes()
    assert "1 of 2 segments from the store" in capsys.readouterr().err
    made = read_metadata(here / "two.mp4")
    assert made is not None
    assert made.redo == (2,)


def test_no_metadata_on_request(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = ("--frames", "4", "-q", "--no-metadata", "--preview")
    assert generate(tiny_checkpoint, *without, "-o", "clip.mp4") == 0
    assert read_metadata(here / "clip.mp4") is read_metadata(here / "clip-preview.mp4") is None
    (here / "clip.mp4").unlink()
    assert generate(tiny_checkpoint, *without, "-o", "clip.mp4") == 0  # beside the preview of before
    capsys.readouterr()
    assert run(["info", "clip.mp4"]) == 0
    assert "unknown" in capsys.readouterr().out


def test_info_on_a_checkpoint(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(tiny_checkpoint)]) == 0
    assert "name: tiny" in capsys.readouterr().out


def test_the_cache_can_be_seen_and_cleared(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tiny_checkpoint, "--frames", "22", "-o", "clip.mp4", "-q") == 0
    capsys.readouterr()
    assert run(["cache", "show"]) == 0
    assert "latents: 2 files" in capsys.readouterr().out
    assert run(["cache", "clear"]) == 0
    assert run(["cache", "show"]) == 0
    assert "latents: 0 files" in capsys.readouterr().out
