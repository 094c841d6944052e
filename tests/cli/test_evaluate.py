import json
from pathlib import Path

import numpy as np
import pytest

from arlon_cli.cli.app import run
from arlon_cli.storage.video import VideoWriter
from arlon_cli.training import variants


def write(path: Path, frames: np.ndarray) -> None:
    with VideoWriter(path, width=frames.shape[2], height=frames.shape[1], fps=24, comment="") as writer:
        writer.write(frames)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a still and a flickering clip, and something that is no video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    still = np.full((20, 32, 32, 3), 120, np.uint8)
    flickering = still.copy()
    flickering[::2] = 20
    write(folder / "still.mp4", still)
    write(folder / "flickering.mp4", flickering)
    (folder / "notes.txt").write_text("no video")
    return folder


def test_a_folder_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder), "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    flickering, still = found["videos"]
    assert (Path(flickering["path"]).name, Path(still["path"]).name) == ("flickering.mp4", "still.mp4")
    assert still["temporal_flickering"] == pytest.approx(1.0, abs=0.001)
    assert flickering["temporal_flickering"] == pytest.approx(155 / 255, abs=0.02)
    assert still["dynamic_degree_proxy"] == 0.0
    assert still["seam_ratio"] is None
    middle = (still["temporal_flickering"] + flickering["temporal_flickering"]) / 2
    assert found["mean"]["temporal_flickering"] == pytest.approx(middle)


def test_a_table_with_names_and_means(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert run(["evaluate", "videos/still.mp4", "videos"]) == 0
    out, err = capsys.readouterr()
    assert "proxy" in out
    assert out.count("videos/still.mp4") == 2
    assert "mean" in out
    assert "Measuring videos/still.mp4" in err


def test_seams_of_what_arlon_made(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.mp4"
    model = ["--model", str(tiny_checkpoint)]
    assert run(["generate", "a red hill", "--frames", "40", "-q", "-o", str(clip), *model]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(clip), "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out)["videos"][0]["seam_ratio"] > 0
    assert run(["evaluate", str(clip), "--json"]) == 0  # the tiny model is no preset
    assert json.loads(capsys.readouterr().out)["videos"][0]["seam_ratio"] is None


def test_held_out_numbers_repeat_themselves(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--heldout", "--model", str(tiny_checkpoint), "--clips", "2", "--frames", "24", "--json"]
    assert run(command) == 0
    first, err = capsys.readouterr()
    assert "Rendering clip 1 of 2" in err
    found = json.loads(first)
    assert set(found["parts"]) == {"video_vae", "latent_vqvae", "latent_vqvae_coarse", "ar", "classifier"}
    assert found["clips"]["real"]["frechet_distance"] == pytest.approx(0, abs=1e-3)
    assert found["clips"]["with_codes"]["frechet_distance"] > 0
    assert found["clips"]["with_codes"]["metrics"]["seam_ratio"] > 0
    assert found["clips"]["with_codes"]["metrics"] != found["clips"]["without_codes"]["metrics"]
    assert "overall" in found["clips"]["with_codes"]["prompt_accuracy"]
    assert run([*command, "-q"]) == 0
    assert capsys.readouterr().out == first


def test_held_out_tables(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--heldout", "--model", str(tiny_checkpoint), "--clips", "2", "--frames", "8", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(word in out for word in ("psnr db", "without codes", "prompt accuracy, overall", "Fréchet"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "or else give --heldout"),
        (["a.mp4", "--heldout"], "or else give --heldout"),
        (["missing.mp4"], "no file missing.mp4"),
        (["--heldout", "--clips", "1"], "--clips is 1"),
        (["--heldout", "--frames", "1"], "--frames is 1"),
        (["a.mp4", "--html", "report.txt"], "ends in .html"),
        (["a.mp4", "--frames", "5"], "are for what --heldout and --suite render"),
        (["a.mp4", "--clips", "5"], "are for what --heldout and --suite render"),
        (["a.mp4", "--suite", "paper"], "or else give --heldout or --suite"),
        (["--suite", "other"], "no suite 'other'"),
        (["--suite", "paper", "--only", "figure-8"], "no experiment 'figure-8'"),
        (["--suite", "paper", "--frames", "23"], "--frames is 23"),
        (["--suite", "paper", "--prompts", "1"], "--prompts is 1"),
        (["--suite", "paper", "--training-steps", "0"], "--training-steps is 0"),
        (["--heldout", "--only", "table-1"], "are for --suite"),
        (["--heldout", "--training-steps", "5"], "are for --suite"),
        (["--heldout", "--export-vbench", "out"], "videos or folders to export"),
        (["a.mp4", "--html", "nowhere/report.html"], "no folder nowhere"),
        (["a.mp4", "--html", "report.html", "--export-vbench", "out"], "Give one of them"),
        (["--suite", "paper", "--results", __file__], "--results is a folder"),
        (["--heldout", "--model", "nothing"], "no weights for 'nothing'"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_measured_is_told_behind_the_rest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.mp4").write_text("no video")
    write(folder / "wide.mp4", np.zeros((4, 8, 2048, 3), np.uint8))
    report = tmp_path / "report.html"
    assert run(["evaluate", str(folder), "--json", "--html", str(report), "-q"]) == 2
    out, err = capsys.readouterr()
    assert [Path(video["path"]).name for video in json.loads(out)["videos"]] == ["flickering.mp4", "still.mp4"]
    assert "Not all could be measured" in err
    assert "bad.mp4" in err
    assert "wide.mp4: Frames of 2048x8 are too narrow" in err
    assert report.exists()


def test_a_report_of_a_tall_video(folder: Path, tmp_path: Path) -> None:
    write(folder / "tall.mp4", np.random.default_rng(0).integers(0, 255, (4, 2048, 32, 3)).astype(np.uint8))
    assert run(["evaluate", str(folder / "tall.mp4"), "--html", str(tmp_path / "report.html"), "-q"]) == 0


def test_a_folder_without_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(tmp_path)]) == 2
    assert "no video in the folder" in capsys.readouterr().err


def test_a_report_of_videos(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.html"
    command = ["evaluate", str(folder), "--html", str(report), "-q"]
    assert run([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["videos"]) == 2
    page = report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<svg") == 6
    assert all(text in page for text in ("still.mp4", "flickering.mp4", "temporal flickering"))
    assert run(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert report.read_text(encoding="utf-8") == page
    assert run([*command, "--overwrite"]) == 0


def test_the_papers_experiments_are_done_once(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--suite", "paper", "--model", str(tiny_checkpoint), "--prompts", "2", "--frames", "24"]
    command += ["--only", "figure-15", "--only", "table-1", "--results", "found", "--json"]
    assert run([*command, "--html", "report.html"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found["experiments"]) == ["table-1", "figure-15"]
    modes = {row["clips"]: row for row in found["experiments"]["table-1"]}
    assert list(modes) == ["painted", "with codes", "without codes", "FreeNoise's noise"]
    numbers = [{name: value for name, value in row.items() if name != "clips"} for row in modes.values()]
    assert all(one != other for i, one in enumerate(numbers) for other in numbers[:i])
    own, other = found["experiments"]["figure-15"][1:3]
    assert own != {**other, "rendered from": own["rendered from"]}
    assert "table-1: prompt 0" in err
    page = (here / "report.html").read_text(encoding="utf-8")
    assert "Table 1: long videos" in page
    assert len((here / "found" / "rows.jsonl").read_text().splitlines()) == 2 * 4 + 2 * 4
    assert run(command) == 0
    assert capsys.readouterr() == (out, "")  # nothing was left to do


@pytest.mark.slow
def test_the_papers_variants_are_trained_once(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(variants, "_CLIPS", 8)
    command = ["evaluate", "--suite", "paper", "--model", str(tiny_checkpoint), "--prompts", "2", "--frames", "24"]
    command += ["--only", "table-3", "--training-steps", "2", "--results", "found", "--json", "--html", "report.html"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)["experiments"]["table-3"]
    assert [row["fusion"] for row in rows[2:]] == [
        "adaptive norm",
        "ControlNet",
        "MLP adapter",
        *["adaptive norm"] * 6,
    ]
    losses = [(row["loss, the clip's codes"], row["loss, drafted codes"]) for row in rows[1:]]
    assert len(set(losses)) >= 5  # the baseline, either codes, three fusions; more need more layers or steps
    assert err.count("step 2 of 2") == 6
    assert "Table 3: variants of training" in (here / "report.html").read_text(encoding="utf-8")
    assert run([*command, "--overwrite"]) == 0
    assert capsys.readouterr() == (out, "Wrote report.html\n")


def test_an_export_for_vbench(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("0", "1"):
        arguments = ["--frames", "8", "--seed", seed, "-q", "--model", str(tiny_checkpoint)]
        assert run(["generate", "a red hill", *arguments]) == 0
    capsys.readouterr()
    assert run(["evaluate", ".", "--export-vbench", "out"]) == 0
    assert capsys.readouterr().out == "out\n"
    names = sorted(path.name for path in (here / "out" / "videos").iterdir())
    assert names == ["a red hill-0.mp4", "a red hill-1.mp4"]
    assert (here / "out" / "videos" / names[0]).read_bytes() == (here / "a-red-hill-0.mp4").read_bytes()
    assert run(["evaluate", "a-red-hill-0.mp4", "--export-vbench", "out"]) == 2
    assert "not empty" in capsys.readouterr().err


def test_only_what_says_its_prompt_is_exported(folder: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder), "--export-vbench", "out"]) == 2
    assert "does not say what its prompt was" in capsys.readouterr().err
    assert not (here / "out").exists()
