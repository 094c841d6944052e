import json
import math
from pathlib import Path

import pytest

from arlon_cli.cli.app import run


def test_every_number_is_there(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("ARLON_CACHE_DIR", str(store))
    command = [
        "bench",
        "--model",
        str(tiny_checkpoint),
        "--frames",
        "22",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "-q",
    ]
    assert run([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found["end_to_end"]["num_frames"] == 22
    assert [stage["unit"] for stage in found["stages"]] == ["codes/s", "ms/step", "frames/s"]
    measured = [value for stage in found["stages"] for value in stage.values() if not isinstance(value, str)]
    measured += [*found["end_to_end"].values(), *found["ceilings"].values()]
    assert all(math.isfinite(value) and value > 0 for value in measured)
    assert not store.exists()  # what is measured was rendered anew, and leaves nothing behind


def test_tables_name_the_machine(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--model", str(tiny_checkpoint), "--frames", "8", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert all(word in out for word in ("codes/s", "ms/step", "frames/s", "the machine", "peak memory gb"))
    assert "Rendering 8 frames" in err


def test_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--frames", "0"]) == 2
    assert "number of frames is 0" in capsys.readouterr().err
