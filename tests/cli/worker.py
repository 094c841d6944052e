"""Runs `arlon` in processes of their own that can be killed: forks them from one that has imported everything.

Reads a JSON list of jobs a line from stdin, runs those of a line at once, and writes a JSON list of their ends.
"""

import ctypes
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from typing import Any

import torch  # noqa: F401 (imported once, for all)

from arlon_cli.cli import app
from arlon_cli.cli import render as _render  # noqa: F401
from arlon_cli.cli.console import Console
from arlon_cli.pipeline import pipeline as _pipeline  # noqa: F401
from arlon_cli.storage import sheet as _sheet  # noqa: F401
from arlon_cli.storage import video as _video  # noqa: F401


def kill_at(number: int, stage: str, segment: int, step: int) -> None:
    """Have this process get a signal when a run comes to a point."""
    shown = Console.progress

    def progress(self: Console, now: Any) -> None:
        shown(self, now)
        if (now.stage, now.segment, now.step) == (stage, segment, step):
            os.kill(os.getpid(), number)

    Console.progress = progress  # type: ignore[method-assign]


def heed_modes() -> None:
    """Have file modes hold for this process even where it is root's: drop Linux's capability to override them."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version; this process
    capabilities = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of each half
    if libc.capget(header, capabilities):
        raise OSError(ctypes.get_errno(), "capget")
    capabilities[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE, of the effective ones
    if libc.capset(header, capabilities):
        raise OSError(ctypes.get_errno(), "capset")


def start(job: dict[str, Any]) -> tuple[int, list[Any]]:
    """Fork a process that runs `arlon`; returns its id and the files of stdout and stderr."""
    streams: list[Any] = [tempfile.TemporaryFile() for _ in "oe"]  # noqa: SIM115 (closed by `end`)
    process = os.fork()
    if process:
        return process, streams
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream.fileno(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(job["folder"])
    os.environ.update(job.get("env", {}))
    if "largest_file" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    if "heed_modes" in job and os.geteuid() == 0:
        heed_modes()
    if "kill_at" in job:
        kill_at(*job["kill_at"])
    sys.argv = ["arlon", *job["arguments"]]
    code = 1
    try:
        app.main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end(process: int, streams: list[Any], job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a process, or kill it at a random moment of the next `kill_within` seconds."""
    if "kill_within" in job:
        time.sleep(random.uniform(0, job["kill_within"]))
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    texts = []
    for stream in streams:
        stream.seek(0)
        texts.append(stream.read().decode())
        stream.close()
    return {"code": code, "out": texts[0], "err": texts[1]}


for line in sys.stdin:
    jobs = json.loads(line)
    started = [start(job) for job in jobs]
    print(json.dumps([end(*one, job) for one, job in zip(started, jobs, strict=True)]), flush=True)
os._exit(0)  # at once: torch takes its time to unwind
