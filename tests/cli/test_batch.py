import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arlon_cli.cli.app import run
from arlon_cli.cli.jobs import _parse_line
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.rendering import Renderer
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.video import probe, read_metadata


def batch(checkpoint: Path, source: str, *arguments: str) -> int:
    return run(["batch", source, "--model", str(checkpoint), "--device", "cpu", "-q", *arguments])


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_prompts_a_line(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "hills.txt").write_text("a red hill\n\n# not this\n  a blue hill \n")
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "--seed", "3") == 0
    assert capsys.readouterr().out == "hills-videos/a-red-hill-3.mp4\nhills-videos/a-blue-hill-3.mp4\n"
    assert [(r["job"], r["status"], r["num_frames"]) for r in results(here / "hills-videos")] == [
        ("hills.txt, line 1", "done", 9),
        ("hills.txt, line 4", "done", 9),
    ]


def test_jobs_a_line(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs: list[dict[str, object]] = [
        {"prompt": "a hill", "frames": 9, "seed": 5, "steps": 3, "guidance": 2, "reuse": 0.2},
        {"prompt": "sea", "seconds": 0.5, "no_ar": True, "no_metadata": True, "sheet": True, "output": "x.mp4"},
        {"prompt": "snow", "frames": 30, "redo": [2], "preview": True},
    ]
    (here / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    assert batch(tiny_checkpoint, "jobs.jsonl", "--steps", "1", "-o", "out") == 0
    made = read_metadata(here / "out" / "a-hill-5.mp4")
    assert made is not None
    assert (made.num_steps, made.guidance_scale, made.reuse) == (3, 2.0, 0.2)
    assert probe(here / "out" / "x.mp4").num_frames == 12
    assert probe(here / "out" / "x.mp4").comment == ""
    made = read_metadata(here / "out" / "snow-0.mp4")
    assert made is not None
    assert (made.num_steps, made.redo) == (1, (2,))
    names = {"a-hill-5.mp4", "x.mp4", "x.png", "snow-0.mp4", "snow-0-preview.mp4", "results.jsonl"}
    assert {path.name for path in (here / "out").iterdir()} == names
    capsys.readouterr()
    assert batch(tiny_checkpoint, "jobs.jsonl", "--steps", "1", "-o", "out", "--json") == 0
    assert [json.loads(line)["skipped"] for line in capsys.readouterr().out.splitlines()] == [True] * 3


def test_a_folder_of_storyboards(tiny_checkpoint: Path, here: Path) -> None:
    (here / "boards").mkdir()
    for name in ("one", "two"):
        (here / "boards" / f"{name}.yaml").write_text("shots: [{prompt: a hill, frames: 9}, {prompt: sea, frames: 9}]")
    assert batch(tiny_checkpoint, "boards", "-o", "out") == 0
    assert probe(here / "out" / "one-0.mp4").num_frames == probe(here / "out" / "two-0.mp4").num_frames == 18


def test_a_failure_is_recorded_and_the_rest_goes_on(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "hills.txt").write_text("a red hill\na blue hill\nsnow\n")
    denoise = Renderer.denoise

    def fail(self, requests):  # type: ignore[no-untyped-def]
        if requests[0].job.prompt == "a blue hill":
            raise ArlonError("No blue.")
        if requests[0].job.prompt == "snow":
            raise ZeroDivisionError("melted")
        return denoise(self, requests)

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "denoise", fail)
        assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "-o", "out") == 1
    out, err = capsys.readouterr()
    assert out == "out/a-red-hill-0.mp4\n"
    assert "2 of 3 jobs failed; out/results.jsonl" in err
    assert [(r["status"], r.get("error")) for r in results(here / "out")] == [
        ("done", None),
        ("failed", "No blue."),
        ("failed", "Unexpected ZeroDivisionError: melted"),
    ]
    first = (here / "out" / "a-red-hill-0.mp4").stat().st_mtime_ns
    with (here / "out" / "results.jsonl").open("a") as file:
        file.write('{"cut sh')
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "-o", "out") == 0
    assert (here / "out" / "a-red-hill-0.mp4").stat().st_mtime_ns == first
    lines = (here / "out" / "results.jsonl").read_text().splitlines()
    assert lines[3] == '{"cut sh'
    assert [json.loads(line)["status"] for line in lines[4:]] == ["done", "done"]


def test_jobs_that_are_denoised_together(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "hills.jsonl").write_text(
        "\n".join(
            json.dumps({"prompt": prompt, "frames": 20} | more)
            for prompt, more in (("a red hill", {}), ("a blue hill", {}), ("snow", {"codes": "none.safetensors"}))
        )
    )
    (here / "none.safetensors").write_text("no codes")
    widths: list[int] = []
    denoise = Renderer.denoise

    def record(self, requests):  # type: ignore[no-untyped-def]
        widths.append(len(requests))
        return denoise(self, requests)

    monkeypatch.setattr(Renderer, "denoise", record)
    arguments = ("hills.jsonl", "--together", "3", "-o", "out")
    assert run(["batch", *arguments, "--model", str(tiny_checkpoint), "--device", "cpu"]) == 1
    assert set(widths) == {2}
    err = capsys.readouterr().err
    assert "Jobs 1 to 3 of 3: Segment 2 of" in err
    assert "from the store" not in err
    assert [(r["status"], "none.safetensors" in r.get("error", "")) for r in results(here / "out")] == [
        ("done", False),
        ("done", False),
        ("failed", True),
    ]
    assert [r.get("resumed_segments") for r in results(here / "out")] == [0, 0, None]
    assert probe(here / "out" / "a-blue-hill-0.mp4").num_frames == 20


def test_what_fails_together_is_made_alone(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "hills.txt").write_text("a red hill\na blue hill\nsnow\n")
    denoise = Renderer.denoise

    def fail(self, requests):  # type: ignore[no-untyped-def]
        if len(requests) > 1:
            raise RuntimeError("too many")
        return denoise(self, requests)

    monkeypatch.setattr(Renderer, "denoise", fail)
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "--together", "2", "-o", "out") == 0
    assert [r["status"] for r in results(here / "out")] == ["done"] * 3


def test_a_store_too_small_for_all_is_told_of(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARLON_CACHE_SIZE", "3KB")
    (here / "hills.txt").write_text("a red hill\na blue hill\n")
    arguments = ("hills.txt", "--frames", "50", "--together", "2", "-o", "out")
    assert run(["batch", *arguments, "--model", str(tiny_checkpoint), "--device", "cpu"]) == 0
    assert "too small for so many together" in capsys.readouterr().err
    assert [r["num_frames"] for r in results(here / "out")] == [50, 50]


@pytest.mark.parametrize("together", ["1", "2"])
def test_a_picture_that_breaks_the_reader_fails_its_job_alone(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, together: str
) -> None:
    Image.new("RGB", (40, 30), "red").save(here / "picture.png")
    jobs = [{"prompt": "a red hill"}, {"prompt": "snow", "image": "picture.png"}, {"prompt": "a blue hill"}]
    (here / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))

    def burst(*arguments: object) -> None:
        raise RuntimeError("The device is full.")

    monkeypatch.setattr(Pipeline, "reference_of", burst)
    assert batch(tiny_checkpoint, "jobs.jsonl", "--frames", "9", "--together", together, "-o", "out") == 1
    assert [(r["status"], "device is full" in r.get("error", "")) for r in results(here / "out")] == [
        ("done", False),
        ("failed", True),
        ("done", False),
    ]


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([{"output": "a.mp4", "preview": True}, {"output": "a-preview.mp4"}], "would both write a-preview.mp4"),
        ([{"output": "a.mp4", "sheet": True}, {"output": "a.MP4", "sheet": True}], "would both write a.png"),
        ([{"output": "b.mp4", "sheet": True}, {"output": "c.mp4", "image": "b.png"}], "would replace the picture of"),
        ([{"output": "b.mp4", "redo": [2, 0]}], "redo names segment 0"),
    ],
)
def test_no_job_writes_over_what_is_anothers(
    tiny_checkpoint: Path, here: Path, jobs: list[dict[str, object]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30), "red").save(here / "b.png")
    picture = (here / "b.png").read_bytes()
    (here / "jobs.jsonl").write_text("\n".join(json.dumps({"prompt": "a hill"} | job) for job in jobs))
    assert batch(tiny_checkpoint, "jobs.jsonl", "--frames", "9", "-o", ".", "--overwrite") == 2
    assert message in capsys.readouterr().err
    assert {path.name for path in here.iterdir() if path.is_file()} == {"b.png", "jobs.jsonl"}
    assert (here / "b.png").read_bytes() == picture


def test_models_are_loaded_once(tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = Checkpoint.load

    def count(self, part, *rest):  # type: ignore[no-untyped-def]
        loaded.append(part)
        return load(self, part, *rest)

    monkeypatch.setattr(Checkpoint, "load", count)
    (here / "hills.txt").write_text("a red hill\na blue hill\nsnow\n")
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9") == 0
    assert sorted(loaded) == ["ar", "dit", "latent_vqvae", "ranker", "text_encoder", "video_vae"]


def test_files_made_otherwise_stay(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "hill.txt").write_text("a hill")
    (here / "out").mkdir()
    (here / "out" / "a-hill-0.mp4").write_text("mine")
    assert batch(tiny_checkpoint, "hill.txt", "--frames", "9", "-o", "out") == 1
    assert "made otherwise" in results(here / "out")[0]["error"]
    assert batch(tiny_checkpoint, "hill.txt", "--frames", "9", "-o", "out", "--skip-existing") == 0
    assert (here / "out" / "a-hill-0.mp4").read_text() == "mine"
    assert batch(tiny_checkpoint, "hill.txt", "--frames", "9", "-o", "out", "--overwrite") == 0
    assert probe(here / "out" / "a-hill-0.mp4").num_frames == 9


def test_what_is_missing_beside_a_video_is_made(tiny_checkpoint: Path, here: Path) -> None:
    (here / "hill.txt").write_text("a hill")
    assert batch(tiny_checkpoint, "hill.txt", "--frames", "9", "-o", "out") == 0
    video = (here / "out" / "a-hill-0.mp4").read_bytes()
    assert batch(tiny_checkpoint, "hill.txt", "--frames", "9", "-o", "out", "--sheet", "--preview") == 0
    assert {path.suffix for path in (here / "out").iterdir()} == {".mp4", ".png", ".jsonl"}
    assert (here / "out" / "a-hill-0-preview.mp4").exists()
    assert (here / "out" / "a-hill-0.mp4").read_bytes() == video


def test_what_stands_beside_another_video_is_made_anew(tiny_checkpoint: Path, here: Path) -> None:
    (here / "hill.txt").write_text("a hill")
    beside = ("hill.txt", "-o", "out", "--sheet", "--preview")
    assert batch(tiny_checkpoint, *beside, "--frames", "9") == 0
    assert batch(tiny_checkpoint, "hill.txt", "-o", "out", "--frames", "12", "--overwrite") == 0
    assert batch(tiny_checkpoint, *beside, "--frames", "12") == 1
    assert "give --overwrite" in results(here / "out")[-1]["error"]
    assert batch(tiny_checkpoint, *beside, "--frames", "12", "--overwrite") == 0
    assert probe(here / "out" / "a-hill-0-preview.mp4").num_frames == 12
    count = len(results(here / "out"))
    assert batch(tiny_checkpoint, *beside, "--frames", "12") == 0
    assert len(results(here / "out")) == count


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_what_another_process_made_counts(
    moment: str, tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "hills.txt").write_text("a hill\na red hill")
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "-o", "other") == 0
    decode = Pipeline.decode

    def work_elsewhere(self, latents):  # type: ignore[no-untyped-def]
        for name in ["a-red-hill-0.mp4"] + ["a-hill-0.mp4"] * (moment == "meanwhile"):
            (here / "out" / name).write_bytes((here / "other" / name).read_bytes())
        return decode(self, latents)

    monkeypatch.setattr(Pipeline, "decode", work_elsewhere)
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "-o", "out") == 0
    assert (here / "out" / "a-red-hill-0.mp4").exists()


def test_without_a_record_the_length_tells(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "hill.txt").write_text("a hill")
    options = ("hill.txt", "-o", "out", "--no-metadata")
    assert batch(tiny_checkpoint, *options, "--frames", "9") == 0
    assert batch(tiny_checkpoint, *options, "--frames", "9") == 0
    assert len(results(here / "out")) == 1
    assert batch(tiny_checkpoint, *options, "--frames", "9", "--sheet") == 0
    assert (here / "out" / "a-hill-0.png").exists()
    assert batch(tiny_checkpoint, *options, "--frames", "12") == 1
    assert "made otherwise" in results(here / "out")[-1]["error"]
    assert probe(here / "out" / "a-hill-0.mp4").num_frames == 9


def test_files_of_any_name(tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"l\xff")
    (here / f"{name}.txt").write_text("a hill\na sea\n")
    assert batch(tiny_checkpoint, f"{name}.txt", "--frames", "9", "-o", "out") == 0
    assert [result["job"] for result in results(here / "out")] == [f"{name}.txt, line {number}" for number in (1, 2)]


def test_an_interrupted_batch_goes_on(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "hills.txt").write_text("a red hill\na blue hill\n")
    denoise = Renderer.denoise

    def stop(self, requests):  # type: ignore[no-untyped-def]
        if requests[0].job.prompt == "a blue hill":
            raise KeyboardInterrupt
        return denoise(self, requests)

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "denoise", stop)
        assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "-o", "out") == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert batch(tiny_checkpoint, "hills.txt", "--frames", "9", "-o", "out") == 0
    assert [r["path"] for r in results(here / "out")] == ["out/a-red-hill-0.mp4", "out/a-blue-hill-0.mp4"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "holds no jobs"),
        ("a.txt", "# only this\n\n", "holds no jobs"),
        ("a.txt", "a hill\nsnow\na hill\n", "line 3 and a.txt, line 1 would both write a-hill-0.mp4"),
        ("a.txt", "a hill\n" + "a" * 5001, "a.txt, line 2: The prompt has 5001 characters"),
        ("a.csv", "a hill", "neither .txt"),
        ("a.jsonl", '{"prompt": "a"}\n{oops\n{"prompt": "b"}', "a.jsonl, line 2: it is not valid JSON"),
        ("a.jsonl", "[]", "line 1: it is no object"),
        ("a.jsonl", "[" * 20_000, "not valid JSON"),
        ("a.jsonl", "{}", "there is no prompt"),
        ("a.jsonl", '{"prompt": ""}', "prompt is empty"),
        ("a.jsonl", '{"prompt": 3}', "prompt is 3, which is not text"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "prompt is given twice"),
        ("a.jsonl", '{"prompt": "a", "colour": "red"}', "unknown field 'colour'"),
        ("a.jsonl", '{"prompt": "a", "frames": true}', "frames is true, which is not a whole number"),
        ("a.jsonl", '{"prompt": "a", "frames": 9, "seconds": 2}', "either"),
        ("a.jsonl", '{"prompt": "a", "seed": -1}', "seed is -1"),
        ("a.jsonl", '{"prompt": "a", "guidance": NaN}', "guidance is nan"),
        ("a.jsonl", '{"prompt": "a", "seconds": Infinity}', "no length"),
        ("a.jsonl", '{"prompt": "a", "steps": ' + "9" * 5000 + "}", "not valid JSON"),
        ("a.jsonl", '{"prompt": "a", "redo": ["1"]}', "redo is"),
        ("a.jsonl", '{"prompt": "a", "no_ar": true, "preview": true}', "--no-ar"),
        ("a.jsonl", '{"prompt": "a", "output": "../a.mp4"}', "no name of an .mp4"),
        ("a.jsonl", '{"prompt": "a", "output": "a.avi"}', "no name of an .mp4"),
        ("a.yaml", "shots: []", "no list `shots`"),
    ],
    ids=lambda text: text[:50],
)
def test_a_bad_batch_renders_nothing(
    name: str, text: str, message: str, tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / name).write_text(text)
    assert batch(tiny_checkpoint, name, "-o", "out") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (here / "out").exists()


def test_the_jobs_that_come_along() -> None:
    file = Path(__file__).parents[2] / "prompts" / "takes.jsonl"
    assert [_parse_line(line) for line in file.read_text().splitlines()]


@given(
    st.text(max_size=99)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["prompt", "frames", "redo", "seed", "sheet"]) | st.text(), inner, max_size=4
            )
        ),
    ).map(json.dumps)
)
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        values = _parse_line(line)
    except InputError as error:
        assert str(error).isprintable()
    else:
        assert isinstance(values["prompt"], str)


def test_jobs_start_from_codes_and_pictures(
    tiny_checkpoint: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(tiny_checkpoint)]
    assert run(["generate", "a hill", "--frames", "21", "-o", "clip.mp4", "-q", *model]) == 0
    assert run(["encode", "clip.mp4", "-q", *model]) == 0
    Image.new("RGB", (40, 30), (200, 30, 90)).save(here / "picture.png")
    jobs = [{"prompt": "snow", "codes": "clip.safetensors"}, {"prompt": "sea", "frames": 9, "image": "picture.png"}]
    (here / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    assert batch(tiny_checkpoint, "jobs.jsonl", "-o", "out") == 0
    assert run(["generate", "snow", "--codes", "clip.safetensors", "-o", "snow.mp4", "-q", *model]) == 0
    assert run(["generate", "sea", "--frames", "9", "--image", "picture.png", "-o", "sea.mp4", "-q", *model]) == 0
    for name in ("snow", "sea"):
        assert (here / f"{name}.mp4").read_bytes() == (here / "out" / f"{name}-0.mp4").read_bytes()
    capsys.readouterr()
    assert batch(tiny_checkpoint, "jobs.jsonl", "-o", "out", "--json") == 0
    assert [json.loads(line).get("skipped") for line in capsys.readouterr().out.splitlines()] == [True, True]
    Image.new("RGB", (40, 30), (20, 130, 90)).save(here / "picture.png")  # another picture of the same name
    assert batch(tiny_checkpoint, "jobs.jsonl", "-o", "out") == 1
    assert "made otherwise" in results(here / "out")[-1]["error"]
