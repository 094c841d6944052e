import json
import re
from pathlib import Path

import pytest

from arlon_cli.errors import InputError
from arlon_cli.evaluation.vbench import export_vbench


def test_names_hold_the_prompts_and_a_number(tmp_path: Path) -> None:
    videos = []
    long = "ein Vulkan über dem Wald " * 20
    for number, prompt in enumerate(["a red hill", "a sea, and/or a lake", "a red hill", long, f"{long} bei Nacht"]):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(bytes([number]))
        videos.append((path, prompt))
    export_vbench(videos, tmp_path / "out")
    files = {path.name: path.read_bytes() for path in (tmp_path / "out" / "videos").iterdir()}
    assert files["a red hill-0.mp4"] == b"\0"
    assert files["a red hill-1.mp4"] == b"\2"
    assert files["a sea, and or a lake-0.mp4"] == b"\1"
    assert len(files) == 5  # prompts that are cut alike do not meet
    assert all(len(name.encode()) <= 255 for name in files)
    prompts = json.loads((tmp_path / "out" / "prompts.json").read_text(encoding="utf-8"))
    assert {name: files[name] for name in prompts} == files
    assert sorted(prompts.values()) == sorted(prompt for _, prompt in videos)
    short = [name for name, prompt in prompts.items() if len(prompt) < 200 and "/" not in prompt]
    assert all(re.sub(r"-\d+$", "", Path(name).stem) == prompts[name] for name in short)  # as VBench reads them


def test_what_is_in_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(InputError, match="not empty"):
        export_vbench([], tmp_path)
    with pytest.raises(InputError, match="not empty"):
        export_vbench([], tmp_path / "kept")
