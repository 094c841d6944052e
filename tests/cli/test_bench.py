import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arlon_cli.cli.app import run
from arlon_cli.config import ModelConfig
from arlon_cli.presets import PRESETS

ON_CPU = ("--device", "cpu", "--dtype", "float32")


def leaves(value: Any) -> Iterator[Any]:
    """All that stands in nested lists and objects."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def test_every_number_is_there(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, report = tmp_path / "store", tmp_path / "report.html"
    monkeypatch.setenv("ARLON_CACHE_DIR", str(store))
    command = ["bench", "--model", str(tiny_checkpoint), "--frames", "22", "--repeats", "1", *ON_CPU, "-q"]
    assert run([*command, "--compare", "--json", "--html", str(report)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert (found["model"], found["weights"], found["repeats"]) == ("tiny", "checkpoint", 1)
    assert found["end_to_end"].pop("num_frames") == 22
    assert found["end_to_end"].keys() == {
        *("load_seconds", "first_frame_seconds", "first_on_disk_seconds", "frames_per_second", "peak_memory_gb")
    }
    units = ["prompts/s", "codes/s", "codes/s", "ms/step", "frames/s", "frames/s"]
    assert [stage["unit"] for stage in found["stages"]] == units
    for stage in found["stages"]:
        assert stage["ceiling"] in ("matrix product", "convolution", "memory")
        assert stage["share_of_ceiling"] > 0
    assert found["ceilings"].keys() == {"product_tflops", "convolution_tflops", "memory_gb_per_second"}
    assert [comparison["times_as_fast"] > 0 for comparison in found["comparisons"]] == [True] * 3
    positive = [found["end_to_end"], found["ceilings"], [stage["rate"] for stage in found["stages"]]]
    assert all(value is None or value > 0 for value in leaves(positive))
    assert not store.exists()  # what is measured was rendered anew, and leaves nothing behind
    page = report.read_text()
    assert page.count("<rect") == len(units)
    assert all(word in page for word in ("video VAE", "first frame seconds", "GPT-2"))
    assert run([*command, "--html", str(report)]) == 2  # nothing is measured for what could not be written
    assert "exists already" in capsys.readouterr().err


def test_a_preset_with_random_weights(
    tiny_config: ModelConfig, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny_config)
    command = ["bench", "--preset", "tiny", "--random", "--size", "48x16", "--repeats", "1", *ON_CPU]
    assert run([*command, "--html", "report.html"]) == 0
    out, err = capsys.readouterr()
    assert all(words in out for words in ("tiny with random weights, 48x16", "bounded by", "What the machine can do"))
    assert "Wrote report.html" in err
    assert run([*command, "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert (found["weights"], found["width"], found["height"]) == ("random", 48, 16)
    assert "end_to_end" not in found and "comparisons" not in found
    seconds = {stage["name"]: stage["seconds"]["median"] for stage in found["stages"]}
    assert found["segment"]["seconds"] > seconds["DiT"] * tiny_config.sampling.num_steps


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--frames", "0"], "number of frames is 0"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--random"], "--random goes with --preset"),
        (["--size", "64x64"], "--size goes with --preset"),
        (["--preset", "diorama", "--compare"], "go with --random"),
        (["--preset", "diorama", "--html", "a.html"], "go with --random"),
        (["--preset", "diorama", "--frames", "60"], "--frames goes with --model"),
        (["--preset", "huge"], "There is no preset 'huge'"),
        (["--preset", "diorama", "--random", "--size", "60x64"], "60x64 is no size of whole codes"),
        (["--preset", "diorama", "--random", "--html", "nowhere/a.html"], "There is no folder nowhere"),
    ],
)
def test_wrong_input(line: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *line]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in " ".join(err.split())
