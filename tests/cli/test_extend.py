"""`extend`: the old frames stay, the new ones go on from them."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arlon_cli.cli.app import run
from arlon_cli.cli.extend import extended_name, result_size
from arlon_cli.config import ModelConfig
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.rendering import Renderer
from arlon_cli.storage.store import Store
from arlon_cli.storage.video import VideoInfo, VideoWriter, probe, read_frames, read_metadata


def clip(path: Path, num_frames: int, *, width: int = 32, height: int = 32, fps: float = 24) -> None:
    """Write a video of slow colours."""
    levels = np.linspace(30, 220, num_frames).astype(np.uint8)
    with VideoWriter(path, width=width, height=height, fps=fps, comment="") as writer:
        writer.write(np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)))


def pixels(path: Path) -> np.ndarray:
    info = probe(path)
    return np.stack(list(read_frames(path, width=info.width, height=info.height)))


def assert_alike(extended: np.ndarray, whole: np.ndarray) -> None:
    """The same frames, but for the mp4's encoder, which starts anew where frames were added."""
    assert np.abs(extended.astype(int) - whole).mean() < 0.3 * np.abs(np.diff(whole.astype(int), axis=0)).mean()


def error(captured: pytest.CaptureFixture[str]) -> str:
    out, err = captured.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    return err


class Cli:
    """`generate` and `extend` with the tiny model; the result's JSON."""

    def __init__(self, checkpoint: Path, captured: pytest.CaptureFixture[str]) -> None:
        self.model = ["--model", str(checkpoint), "--device", "cpu"]
        self.captured = captured
        self.err = ""

    def generate(self, frames: int, output: str, *options: str) -> None:
        assert run(["generate", "a red hill", "--frames", str(frames), "-o", output, "-q", *options, *self.model]) == 0
        self.captured.readouterr()

    def extend(self, *arguments: str) -> dict:  # type: ignore[type-arg]
        self.captured.readouterr()
        code = run(["extend", *arguments, "--json", *self.model])
        out, self.err = self.captured.readouterr()
        assert code == 0, self.err
        return json.loads(out)


@pytest.fixture
def cli(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tiny_checkpoint, capsys)


def test_names() -> None:
    names = ["clip.mov", "clip-extended.mp4", "clip-extended-2.mp4", "clip-extended-9.mp4"]
    numbers = ["", "-2", "-3", "-10"]
    assert [extended_name(Path(name)) for name in names] == [f"clip-extended{number}.mp4" for number in numbers]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (512, 512)), ((1920, 1080), (1080, 1080)), ((33, 50), (32, 32)), ((20, 30), (20, 20))],
)
def test_sizes(tiny_config: ModelConfig, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert result_size(VideoInfo(*size, 24.0, 9, ""), tiny_config) == expected


@pytest.mark.parametrize("num_frames", [20, 44, 32])  # ends of whole segments: 20 + 12 k
def test_extended_from_the_store_equals_a_longer_video(cli: Cli, here: Path, num_frames: int) -> None:
    cli.generate(num_frames, "short.mp4")
    result = cli.extend("short.mp4", "--frames", "30")
    assert (result["from"], result["copied"], result["num_frames"]) == ("plan", True, num_frames + 30)
    cli.generate(num_frames + 30, "long.mp4")
    short, extended, long = (pixels(here / name) for name in ("short.mp4", "short-extended.mp4", "long.mp4"))
    assert np.array_equal(extended[:num_frames], short)
    assert_alike(extended, long)


@pytest.mark.parametrize("num_frames", [3, 22, 25, 41])
def test_any_length_is_extended_again_and_again(cli: Cli, here: Path, num_frames: int) -> None:
    cli.generate(num_frames, "clip.mp4", "--seed", "4")
    expected = pixels(here / "clip.mp4")
    video = "clip.mp4"
    for number, (prompt, frames) in enumerate((([], 3), (["a blue sea"], 14), ([], 9))):
        result = cli.extend(video, *prompt, "--frames", str(frames), "-o", f"{number}.mp4")
        assert (result["from"], result["copied"], result["seed"]) == ("plan", True, 4)
        video = f"{number}.mp4"
        found = pixels(here / video)
        assert len(found) == len(expected) + frames
        assert np.array_equal(found[: len(expected)], expected)
        expected = found
    made = read_metadata(here / video)
    assert made is not None
    assert [shot.prompt for shot in made.shots] == ["a red hill", "a red hill", "a blue sea", "a blue sea"]
    assert made.num_frames == len(expected)


def test_time_goes_on_evenly(cli: Cli, here: Path) -> None:
    from arlon_cli.storage.video import run_ffmpeg

    cli.generate(22, "clip.mp4")
    cli.extend("clip.mp4", "--frames", "17", "-o", "long.mp4")
    log = run_ffmpeg(
        "-loglevel", "error", "-i", "long.mp4", "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"
    )
    times = [int(line.split(",")[2]) for line in log.stdout.decode().splitlines() if not line.startswith("#")]
    assert len(times) == 39
    assert len(set(np.diff(times))) == 1


def test_only_what_is_needed_is_read_and_rendered(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.generate(92, "clip.mp4")  # seven segments
    made = read_metadata(here / "clip.mp4")
    assert made is not None
    rendered: list[int] = []
    denoise = Renderer.denoise

    def record(self, requests):  # type: ignore[no-untyped-def]
        rendered.append(requests[0].job.segment.index)
        return denoise(self, requests)

    monkeypatch.setattr(Renderer, "denoise", record)
    result = cli.extend("clip.mp4", "--frames", "12", "-o", "one.mp4")
    assert rendered == [7]
    assert result["resumed_segments"] <= 3
    store = Store.from_environment()
    for kind, path, _ in list(store.artifacts()):
        if kind == "codes" or path.stem != made.last_latents:
            path.unlink()
    cli.extend("clip.mp4", "--frames", "12", "-o", "two.mp4")
    assert (here / "two.mp4").read_bytes() == (here / "one.mp4").read_bytes()


def test_other_settings_go_on_from_stored_latents(cli: Cli, here: Path) -> None:
    cli.generate(32, "clip.mp4")
    ends = set()
    for number, options in enumerate((["--seed", "9"], ["--seed", "10"], ["--steps", "3"], ["--no-ar"])):
        result = cli.extend("clip.mp4", "--frames", "10", "-o", f"{number}.mp4", *options)
        assert (result["from"], result["copied"]) == ("latents", True)
        found = pixels(here / f"{number}.mp4")
        assert np.array_equal(found[:32], pixels(here / "clip.mp4"))
        ends.add(found[32:].tobytes())
    assert len(ends) == 4
    result = cli.extend("0.mp4", "--frames", "10")
    assert (result["from"], result["seed"], result["num_frames"]) == ("latents", 9, 52)


def test_a_short_last_segment_is_gone_on_from_with_those_before_it(cli: Cli, here: Path) -> None:
    cli.generate(21, "clip.mp4")  # one frame more than a segment has
    for number in range(3):
        result = cli.extend("clip.mp4", "--frames", "2", "-o", f"{number}.mp4", "--seed", str(number + 1))
        assert (result["from"], "its end is encoded" in cli.err) == ("latents", False)
    assert cli.extend("2.mp4", "--frames", "2", "-o", "3.mp4", "--seed", "9")["from"] == "latents", cli.err


def test_a_scene_goes_on_from_itself_alone(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cut.yaml").write_text(
        "shots: [{prompt: a red hill, frames: 30}, {prompt: a blue sea, frames: 8, cut: true}]"
    )
    assert run(["storyboard", "cut.yaml", "-o", "cut.mp4", "-q", *cli.model]) == 0
    Store.from_environment().evict(limit=0)
    given: list[np.ndarray] = []
    encode = Pipeline.reference_of

    def record(self, frames, use_ar):  # type: ignore[no-untyped-def]
        given.append(np.stack(list(frames)))
        return encode(self, given[-1], use_ar)

    monkeypatch.setattr(Pipeline, "reference_of", record)
    assert cli.extend("cut.mp4", "--frames", "5", "-o", "more.mp4")["from"] == "pixels"
    assert np.array_equal(given[0][-8:], pixels(here / "cut.mp4")[30:])
    assert (given[0][:-8] == given[0][-8]).all()  # filled up with the scene's first


def test_what_another_checkpoint_made_is_said_to_be(cli: Cli, here: Path) -> None:
    cli.generate(32, "clip.mp4")
    made = read_metadata(here / "clip.mp4")
    assert made is not None
    comment = replace(made, model_digest="0" * 64).to_json()
    with VideoWriter(here / "other.mp4", width=32, height=32, fps=24, comment=comment) as writer:
        writer.write(pixels(here / "clip.mp4"))
    assert cli.extend("other.mp4", "--frames", "5")["from"] == "pixels"
    assert "other.mp4 was made by another checkpoint" in cli.err


def test_a_video_and_last_exclude_each_other(cli: Cli, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.generate(9, "clip.mp4")
    assert run(["extend", "clip.mp4", "--last", "--frames", "4", *cli.model]) == 2
    assert "Give either VIDEO or --last." in error(capsys)


def test_without_the_store_the_end_is_encoded(cli: Cli, here: Path) -> None:
    cli.generate(32, "clip.mp4")
    Store.from_environment().evict(limit=0)
    result = cli.extend("clip.mp4", "--frames", "10", "-o", "long.mp4")
    assert (result["from"], result["copied"], result["num_frames"]) == ("pixels", True, 42)
    assert "not in the store" in cli.err
    assert np.array_equal(pixels(here / "long.mp4")[:32], pixels(here / "clip.mp4"))
    made = read_metadata(here / "long.mp4")
    assert made is not None
    assert (made.extends, made.num_frames) == ("clip.mp4", 42)
    assert cli.extend("long.mp4", "--frames", "10")["from"] == "latents"


def test_a_preview_goes_on_as_it_looks(cli: Cli, here: Path) -> None:
    cli.generate(32, "clip.mp4", "--preview")
    assert cli.extend("clip-preview.mp4", "--frames", "10", "-o", "long.mp4")["from"] == "pixels"
    made = read_metadata(here / "long.mp4")
    assert made is not None
    assert (made.extends, made.preview) == ("clip-preview.mp4", False)


def test_a_trimmed_video_is_not_taken_for_the_whole(cli: Cli, here: Path) -> None:
    from arlon_cli.storage.video import run_ffmpeg

    cli.generate(48, "clip.mp4")
    assert run_ffmpeg("-i", "clip.mp4", "-frames:v", "20", "trimmed.mp4").returncode == 0
    assert read_metadata(here / "trimmed.mp4") is not None
    result = cli.extend("trimmed.mp4", "--frames", "10")
    assert (result["from"], result["num_frames"]) == ("pixels", 30)


@pytest.mark.parametrize(
    ("size", "fps", "expected", "said"),
    [
        ((32, 32), 24, (32, 32), ""),
        ((64, 64), 24, (64, 64), ""),
        ((32, 32), 30, (32, 32), "30 frames/s"),
        ((96, 64), 24, (64, 64), "its centre, 64x64"),
    ],
)
def test_any_video(
    cli: Cli, here: Path, size: tuple[int, int], fps: float, expected: tuple[int, int], said: str
) -> None:
    clip(here / "clip.mp4", 50, width=size[0], height=size[1], fps=fps)
    before = (here / "clip.mp4").read_bytes()
    result = cli.extend("clip.mp4", "a blue sea", "--frames", "13", "-o", "long.mp4")
    info = probe(here / "long.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (*expected, fps, 63)
    assert (result["from"], result["num_frames"], result["new_frames"]) == ("pixels", 63, 13)
    assert said in cli.err
    assert result["copied"] == (size == expected)
    assert ("encoded again" in cli.err) != result["copied"]
    old = np.stack(list(read_frames(here / "clip.mp4", width=expected[0], height=expected[1])))
    assert np.abs(pixels(here / "long.mp4")[:50].astype(int) - old).max() < (1 if result["copied"] else 12)
    assert (here / "clip.mp4").read_bytes() == before


def test_a_rate_of_its_own_goes_on(cli: Cli, here: Path) -> None:
    cli.generate(44, "clip.mp4", "--fps", "12")
    result = cli.extend("clip.mp4", "--seconds", "2", "-o", "long.mp4")
    assert (result["from"], result["copied"], result["fps"], result["num_frames"]) == ("plan", True, 12.0, 68)
    assert "frames/s and" not in cli.err
    cli.generate(68, "whole.mp4", "--fps", "12")
    extended, whole = pixels(here / "long.mp4"), pixels(here / "whole.mp4")
    assert_alike(extended, whole)
    assert cli.extend("long.mp4", "snow", "--frames", "9")["from"] == "plan"


def test_another_format_is_encoded_again(cli: Cli, here: Path) -> None:
    from arlon_cli.storage.video import run_ffmpeg

    clip(here / "clip.mp4", 30)
    assert run_ffmpeg("-i", "clip.mp4", "-c:v", "mpeg4", "-q:v", "2", "clip.avi").returncode == 0
    result = cli.extend("clip.avi", "a blue sea", "--seconds", "0.5")
    assert (result["path"], result["num_frames"], result["copied"]) == ("clip-extended.mp4", 42, False)
    assert "encoded again" in cli.err
    assert np.abs(pixels(here / "clip-extended.mp4")[:30].astype(int) - pixels(here / "clip.avi")).max() < 12


def test_short_videos(cli: Cli, here: Path) -> None:
    clip(here / "clip.mp4", 3)
    assert cli.extend("clip.mp4", "a blue sea", "--frames", "5")["num_frames"] == 8
    result = cli.extend("clip-extended.mp4", "--frames", "1")  # decoding times would not meet
    assert (result["num_frames"], result["copied"]) == (9, False)
    assert len(pixels(here / "clip-extended-2.mp4")) == 9


def test_last_takes_the_newest_result(cli: Cli, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["extend", "--last", *cli.model]) == 2
    assert "no newest result" in error(capsys)
    cli.generate(9, "one.mp4")
    cli.generate(11, "two.mp4")
    assert cli.extend("--last", "--frames", "4")["path"] == "two-extended.mp4"
    assert cli.extend("--last", "a blue sea", "--frames", "4")["num_frames"] == 19
    made = read_metadata(here / "two-extended-2.mp4")
    assert made is not None
    assert made.shots[-1].prompt == "a blue sea"
    assert run(["extend", "--last", "", *cli.model]) == 2
    assert "prompt is empty" in error(capsys)
    cli.extend("--last", "./a sea // fog/", "--frames", "4", "-o", "fog.mp4")
    made = read_metadata(here / "fog.mp4")
    assert made is not None
    assert made.shots[-1].prompt == "./a sea // fog/"
    cli.extend("two-extended.mp4", "a blue sea", "--frames", "4", "-o", "two-extended-2.mp4", "--overwrite")
    (here / "two-extended-2.mp4").unlink()
    assert run(["extend", "--last", *cli.model]) == 2
    assert "no longer there" in error(capsys)


def test_refused(cli: Cli, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.generate(9, "clip.mp4")
    clip(here / "plain.mp4", 9)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    for arguments, message in (
        ([], "--last"),
        (["missing.mp4"], "no file missing.mp4"),
        (["plain.mp4"], "name a prompt"),
        (["clip.mp4", ""], "prompt is empty"),
        (["clip.mp4", "--frames", "0"], "number of frames is 0"),
        (["clip.mp4", "--frames", "9", "--seconds", "1"], "either --frames or --seconds"),
        (["clip.mp4", "--seconds", "nan"], "seconds"),
        (["clip.mp4", "a hill", "--last"], "either VIDEO or --last"),
        (["clip.mp4", "-o", "clip.mp4"], "exists already"),
        (["clip.mp4", "-o", "clip.mp4", "--overwrite"], "never overwritten"),
        (["clip.mp4", "-o", "clip.avi"], ".mp4"),
        (["clip.mp4", "--steps", "0"], "--steps is 0"),
    ):
        assert run(["extend", *arguments, "-q", *cli.model]) == 2
        assert message in error(capsys)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize(
    "wrong",
    [{"num_steps": 0}, {"num_steps": 10**9}, {"seed": -1}, {"reuse": -1.0}, {"frames": 10**12}, {"frames": -5}],
    ids=str,
)
def test_a_record_that_nothing_could_have_made(
    wrong: dict[str, float], cli: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.generate(9, "clip.mp4")
    made = read_metadata(here / "clip.mp4")
    assert made is not None
    if "frames" in wrong:
        made = replace(made, shots=(replace(made.shots[0], num_frames=int(wrong["frames"])),))
    else:
        made = replace(made, **wrong)  # type: ignore[arg-type]
    with VideoWriter(here / "odd.mp4", width=32, height=32, fps=24, comment=made.to_json()) as writer:
        writer.write(pixels(here / "clip.mp4"))
    assert run(["extend", "odd.mp4", "--frames", "4", *cli.model]) == 2
    assert "What odd.mp4 says of how it was made is damaged: " in error(capsys)


def test_an_extension_is_made_as_the_video_was(cli: Cli, here: Path) -> None:
    settings = ("--steps", "4", "--reuse", "0.3", "--guidance", "2")
    cli.generate(20, "short.mp4", *settings)
    cli.extend("short.mp4", "--frames", "12")
    cli.generate(32, "long.mp4", *settings)
    extended, long = (read_metadata(here / name) for name in ("short-extended.mp4", "long.mp4"))
    assert extended is not None
    assert long is not None
    assert extended.last_latents == long.last_latents


def test_a_failure_leaves_nothing(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.generate(20, "clip.mp4")

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Renderer, "denoise", stop)
    assert run(["extend", "clip.mp4", "--frames", "20", "-q", *cli.model]) == 130
    assert "same command goes on" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]


BOARD = "shots: [{prompt: a red hill, frames: 22}, {prompt: a blue sea, frames: 15, seed: 9, steps: 3, guidance: 2}]"


def test_a_storyboard_goes_on_as_its_last_shot_was_made(cli: Cli, here: Path) -> None:
    (here / "board.yaml").write_text(BOARD)
    assert run(["storyboard", "board.yaml", "-o", "clip.mp4", "--redo", "2", "-q", *cli.model]) == 0
    result = cli.extend("clip.mp4", "--frames", "9", "-o", "long.mp4")
    assert (result["from"], result["copied"], result["seed"]) == ("plan", True, 9)
    made, before = read_metadata(here / "long.mp4"), read_metadata(here / "clip.mp4")
    assert made is not None
    assert before is not None
    assert (made.seed, made.redo, made.shots[:-1]) == (0, (2,), before.shots)
    last = made.shots[-1]
    assert (last.prompt, last.seed, last.num_steps, last.guidance_scale, last.added) == ("a blue sea", 9, 3, 2, True)
    result = cli.extend("clip.mp4", "--frames", "9", "--steps", "2", "-o", "other.mp4")
    assert (result["from"], result["seed"]) == ("latents", 9)


def test_info_gives_the_commands_that_extend_again(cli: Cli, here: Path) -> None:
    cli.generate(20, "clip.mp4", "--seed", "4")
    cli.extend("clip.mp4", "a blue sea", "--frames", "9", "-o", "long.mp4")
    cli.extend("long.mp4", "--frames", "5", "-o", "longer.mp4")
    assert run(["info", "longer.mp4", "--json"]) == 0
    again = json.loads(cli.captured.readouterr().out)["again"]
    (here / "elsewhere").mkdir()
    for command in again.split(" && "):
        words = shlex.split(command)[1:]
        words[words.index("--model") + 1] = cli.model[1]
        words[words.index("-o") + 1] = f"elsewhere/{words[words.index('-o') + 1]}"
        if words[0] == "extend":
            words[words.index("--") + 1] = f"elsewhere/{words[words.index('--') + 1]}"
        assert run([*words[:1], "-q", *words[1:]]) == 0
    assert (here / "elsewhere" / "longer.mp4").read_bytes() == (here / "longer.mp4").read_bytes()


def test_info_says_what_a_video_goes_on_from(cli: Cli, here: Path) -> None:
    clip(here / "clip.mp4", 30)
    cli.extend("clip.mp4", "a red hill", "--frames", "9")
    assert run(["info", "clip-extended.mp4", "--json"]) == 0
    facts = json.loads(cli.captured.readouterr().out)
    assert facts["extends"] == "clip.mp4"
    assert "clip.mp4" in facts["again"]


def test_settings_of_every_day_leave_the_video_its_own(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.generate(20, "clip.mp4")
    (here / "videos").mkdir()
    monkeypatch.setenv("ARLON_OUTPUT", "videos")
    monkeypatch.setenv("ARLON_STEPS", "7")
    assert cli.extend("clip.mp4", "--frames", "9")["from"] == "plan"
    assert (here / "videos" / "clip-extended.mp4").is_file()


def test_a_long_storyboard_is_extended(cli: Cli, here: Path) -> None:
    shots = ", ".join(f"{{prompt: '{'a red hill ' * 400} {number}', frames: 8}}" for number in range(40))
    (here / "board.yaml").write_text(f"shots: [{shots}]")
    assert run(["storyboard", "board.yaml", "-o", "clip.mp4", "--steps", "1", "-q", *cli.model]) == 0
    assert cli.extend("clip.mp4", "snow", "--frames", "5", "-o", "long.mp4")["copied"]
    made = read_metadata(here / "long.mp4")
    assert made is not None
    assert len(made.shots) == 41
