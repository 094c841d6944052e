"""Nothing is lost: runs that are killed, stores that are damaged, full disks, and processes at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arlon_cli.storage.store import Store

NUM_FRAMES = 20 + 11 * 12  # 12 segments
Worker = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def worker(tiny_checkpoint: Path) -> Iterator[Worker]:
    """Runs jobs at once in processes of their own; see worker.py."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "ARLON_CONFIG_DIR": "/nowhere"}
    command = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*jobs: dict[str, Any]) -> list[dict[str, Any]]:
            print(json.dumps(jobs), file=process.stdin, flush=True)
            ends: list[dict[str, Any]] = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            return ends

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def whole_run(worker: Worker, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video of a run that nothing disturbed, in its folder, with its store."""
    folder = tmp_path_factory.mktemp("whole")
    [end] = worker(job(tiny_checkpoint, folder))
    assert end["code"] == 0, end["err"]
    return folder / "clip.mp4"


@pytest.fixture(scope="module")
def whole(whole_run: Path) -> bytes:
    """The file of a run that nothing disturbed."""
    return whole_run.read_bytes()


def job(checkpoint: Path, folder: Path, *options: str, **more: Any) -> dict[str, Any]:
    """A job in a folder, whose store is beside it."""
    arguments = ["generate", "a red hill", "--frames", str(NUM_FRAMES), "--model", str(checkpoint), "--device", "cpu"]
    store = {"ARLON_CACHE_DIR": str(folder.with_name(folder.name + "-store"))}
    return {"arguments": [*arguments, "-o", "clip.mp4", *options], "folder": str(folder), "env": store} | more


def store_of(folder: Path) -> Store:
    return Store(folder.with_name(folder.name + "-store"), 10**9)


def copy_store(video: Path, folder: Path) -> None:
    shutil.copytree(store_of(video.parent).folder, store_of(folder).folder)


def leftovers(folder: Path) -> list[Path]:
    """What is neither the video nor an artifact: hidden files beside the output and in the store."""
    return [path for top in (folder, store_of(folder).folder) for path in top.rglob(".*")]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)],
    ids=lambda value: str(value),
)
def test_killed_in_segment_6_and_started_again(
    number: int, code: int, worker: Worker, whole: bytes, tiny_checkpoint: Path, here: Path
) -> None:
    [end] = worker(job(tiny_checkpoint, here, kill_at=[number, "denoise", 6, 1]))
    assert end["code"] == code
    assert end["out"] == ""
    assert not (here / "clip.mp4").exists()
    if code == 130:
        assert "same command goes on" in end["err"].splitlines()[-1]
        assert "Traceback" not in end["err"]
        assert not leftovers(here)
    [end] = worker(job(tiny_checkpoint, here))
    assert end["code"] == 0
    stored = [line.split(":")[0] for line in end["err"].splitlines() if "found in the store" in line]
    assert stored == [f"Segment {segment} of 12" for segment in range(1, 6)]
    assert (here / "clip.mp4").read_bytes() == whole
    assert not leftovers(here)


def test_an_extension_that_is_killed_leaves_nothing_beside_the_video(
    worker: Worker, whole_run: Path, tiny_checkpoint: Path, here: Path
) -> None:
    copy_store(whole_run, here)
    shutil.copy(whole_run, here)
    arguments = ["extend", "clip.mp4", "--frames", "24", "-o", "more.mp4", "--model", str(tiny_checkpoint)]
    extend = job(tiny_checkpoint, here) | {"arguments": [*arguments, "--device", "cpu"]}
    [end] = worker(extend | {"kill_at": [signal.SIGKILL, "denoise", 3, 1]})
    assert end["code"] == -9
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]
    [end] = worker(extend)
    assert end["code"] == 0, end["err"]
    assert sorted(path.name for path in here.iterdir()) == ["clip.mp4", "more.mp4"]


@pytest.mark.slow
def test_twenty_kills_at_random_moments(worker: Worker, whole: bytes, tiny_checkpoint: Path, here: Path) -> None:
    kept = 0
    for _ in range(20):
        worker(job(tiny_checkpoint, here, "--overwrite", kill_within=2.0))
        count = len(list(store_of(here).artifacts()))
        assert count >= kept
        kept = count
        assert all(store_of(here).read(kind, path.stem) for kind, path, _ in list(store_of(here).artifacts()))
    [end] = worker(job(tiny_checkpoint, here, "--overwrite"))
    assert end["code"] == 0
    assert (here / "clip.mp4").read_bytes() == whole
    # the next run writes again what a kill cut short, and cleans up; but for the note of a finished run's speed
    assert not [path for path in leftovers(here) if "timings" not in path.parts]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "deleted", "replaced"])
def test_a_damaged_store_is_mended(
    damage: str, worker: Worker, whole_run: Path, tiny_checkpoint: Path, here: Path
) -> None:
    copy_store(whole_run, here)
    artifacts = sorted(path for kind, path, _ in store_of(here).artifacts() if kind != "timings")
    for path in artifacts[::3]:
        content = bytearray(path.read_bytes())
        if damage == "deleted":
            path.unlink()
        elif damage == "replaced":  # by another artifact, whole in itself
            path.write_bytes(artifacts[1].read_bytes())
        else:
            content[-7] ^= 0x10
            path.write_bytes({"truncated": content[:-20], "flipped": content, "empty": b""}[damage])
    [end] = worker(job(tiny_checkpoint, here))
    assert end["code"] == 0
    assert (here / "clip.mp4").read_bytes() == whole_run.read_bytes()


def test_two_processes_at_once(worker: Worker, whole: bytes, tiny_checkpoint: Path, here: Path) -> None:
    ends = worker(job(tiny_checkpoint, here), job(tiny_checkpoint, here, "-o", "other.mp4"))
    assert [end["code"] for end in ends] == [0, 0]
    assert (here / "clip.mp4").read_bytes() == (here / "other.mp4").read_bytes() == whole
    assert all(store_of(here).read(kind, path.stem) for kind, path, _ in list(store_of(here).artifacts()))
    assert not leftovers(here)


def test_two_processes_with_one_output(worker: Worker, whole: bytes, tiny_checkpoint: Path, here: Path) -> None:
    ends = worker(*[job(tiny_checkpoint, here)] * 2)
    assert 0 in [end["code"] for end in ends]
    assert (here / "clip.mp4").read_bytes() == whole
    assert not leftovers(here)


@pytest.mark.slow
def test_four_different_jobs_at_once(worker: Worker, tiny_checkpoint: Path, here: Path) -> None:
    jobs = [job(tiny_checkpoint, here, "--seed", str(seed), "-o", f"{seed}.mp4") for seed in range(4)]
    assert [end["code"] for end in worker(*jobs)] == [0] * 4
    assert len({(here / f"{seed}.mp4").read_bytes() for seed in range(4)}) == 4
    assert not leftovers(here)


@pytest.mark.parametrize("full", ["store", "output"])
def test_a_full_disk_costs_nothing_that_is_done(
    full: str, worker: Worker, whole_run: Path, tiny_checkpoint: Path, here: Path
) -> None:
    if full == "output":
        copy_store(whole_run, here)
    [end] = worker(job(tiny_checkpoint, here, "-q", largest_file=1400))  # for codes, but not for latents or a video
    assert end["code"] == 1
    assert end["out"] == ""
    assert ("Could not write to the store" if full == "store" else "Could not write clip.mp4") in end["err"]
    assert end["err"].count("\n") == 1
    assert not list(here.iterdir())
    assert not leftovers(here)
    [end] = worker(job(tiny_checkpoint, here, "--json"))
    assert end["code"] == 0
    assert json.loads(end["out"])["resumed_segments"] == (0 if full == "store" else 12)
    assert (here / "clip.mp4").read_bytes() == whole_run.read_bytes()


def test_a_store_that_may_only_be_read_still_serves(
    worker: Worker, whole_run: Path, tiny_checkpoint: Path, here: Path
) -> None:
    copy_store(whole_run, here)
    paths = [store_of(here).folder, *store_of(here).folder.rglob("*")]
    for path in paths:
        path.chmod(0o555)
    try:
        [end] = worker(job(tiny_checkpoint, here, heed_modes=True))
    finally:
        for path in paths:
            path.chmod(0o755)
    assert end["code"] == 0
    assert (here / "clip.mp4").read_bytes() == whole_run.read_bytes()
    assert store_of(here).last_result() == whole_run  # the run could not note its own
