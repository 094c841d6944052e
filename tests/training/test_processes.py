"""Several processes learn what one process learns from the same clips."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import arlon_cli
from arlon_cli.cli.app import run
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.training.processes import ALONE


def arguments(part: str, data: Path, output: Path, model: Path) -> list[str]:
    options = ["--steps", "21", "--batch", "4", "--micro-batch", "2", "--lr", "0.01", "--device", "cpu"]
    return ["train", part, str(data), "-o", str(output), "--model", str(model), *options, "--dtype", "float32"]


def together(folder: Path, line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `arlon` in two processes."""
    script = folder / "arlon.py"
    script.write_text("from arlon_cli.cli.app import main\n\nmain()\n")
    environment = os.environ | {"PYTHONPATH": str(Path(arlon_cli.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run([*launch, *line], env=environment, capture_output=True, text=True, check=False)


def curve(folder: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["vqvae", "dit"])
def test_two_processes_have_the_curve_of_one_with_the_doubled_batch(
    part: str, videos: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(arguments(part, videos, one, tiny_checkpoint)) == 0
    capsys.readouterr()
    done = together(tmp_path, arguments(part, videos, two, tiny_checkpoint))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{two / 'checkpoint'}\n"  # from one of them alone
    expected, found = curve(one), curve(two)
    assert found.keys() == expected.keys() == {1, 20, 21}
    for step, line in expected.items():
        assert found[step] == pytest.approx(line, rel=1e-4), step
    name = {"vqvae": "latent_vqvae"}.get(part, part)
    for key, value in Checkpoint(one / "checkpoint").tensors(name).items():
        other = Checkpoint(two / "checkpoint").tensors(name)[key]
        torch.testing.assert_close(other.float(), value.float(), rtol=1e-2, atol=1e-3)


def test_one_process_talks_to_itself() -> None:
    assert (ALONE.rank, ALONE.count, ALONE.share(3)) == (0, 1, range(3))
    vectors = torch.eye(2)
    assert ALONE.gather(vectors) is vectors
    assert ALONE.gather_objects([1]) == [1]
    assert ALONE.any(True) and not ALONE.any(False)
    ALONE.agree(vectors)
    assert torch.equal(vectors, torch.eye(2))
