import subprocess
import sys
from pathlib import Path

import pytest

from arlon_cli.storage.partial import partial_file, remove_leftovers, write_whole


def test_what_is_not_renamed_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), partial_file(tmp_path / "a.bin") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_what_is_renamed_stays(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"another")
    write_whole(tmp_path / "a.bin", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"whole"


def test_files_at_work_stay_and_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from arlon_cli.storage.partial import partial_file\n"
        "with partial_file(Path(sys.argv[1]) / 'a.bin') as path: os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    [leftover] = tmp_path.iterdir()
    with partial_file(tmp_path / "b.bin") as at_work:
        remove_leftovers(tmp_path)
        assert at_work.exists()
        assert not leftover.exists()
