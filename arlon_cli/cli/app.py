"""The command `arlon`: its subcommands, and the one place where errors become a line and an exit code."""

import gc
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, TextIO, cast

import typer

import arlon_cli
from arlon_cli.cli import (
    batch,
    bench,
    cache,
    decode,
    encode,
    evaluate,
    extend,
    generate,
    info,
    models,
    settings,
    storyboard,
    train,
)
from arlon_cli.cli.console import Interrupted, print_error, print_line
from arlon_cli.errors import ArlonError

app = typer.Typer(
    name="arlon",
    help="Long videos from text.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("extend")(extend.extend)
app.command("storyboard")(storyboard.storyboard)
app.command("batch")(batch.batch)
app.command("encode")(encode.encode)
app.command("decode")(decode.decode)
app.command("info")(info.info)
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")
app.add_typer(train.app, name="train")
app.command("evaluate")(evaluate.evaluate)
app.command("bench")(bench.bench)

_GARBAGE = 50_000  # objects between two collections; imports alone make a million, of which hardly any is garbage
_signalled = threading.Event()
_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_QUOTED = 200  # characters at most of what an error says back
_SPINS = "1000"  # some microseconds
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
_UsageError = typer.BadParameter.__mro__[1]  # click's, or the copy of click that newer typers bring


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"arlon {arlon_cli.__version__}")
        raise typer.Exit()


@app.callback(epilog=f"{settings.NAMES} may also stand in {settings.settings_path()}.")
def arlon(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; anywhere on the line, or ARLON_DEBUG=1.")
    ] = False,
) -> None:
    """Long videos from text."""
    context.default_map = settings.defaults_of(context.command, settings.read_settings(settings.settings_path()))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    debug = len(options) < end or os.environ.get("ARLON_DEBUG", "") not in ("", "0")
    try:
        code = app([*options, *arguments[end:]], standalone_mode=False, prog_name="arlon")
        if code == 130:  # typer's, of a Ctrl-C that no command has words for
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click's, or typer's copy of it
            print_line(error.ctx.get_help())  # type: ignore[union-attr]
            return 2
        if debug:
            traceback.print_exc()
        interrupted = _signalled.is_set() and isinstance(error, Exception) and not isinstance(error, Interrupted)
        message, code = describe(KeyboardInterrupt() if interrupted else error)
        print_error(message)
        return code


def describe(error: BaseException) -> tuple[str, int]:
    """What went wrong, for the user, and the exit code."""
    if isinstance(error, ArlonError):
        return str(error), error.exit_code
    if isinstance(error, Interrupted):
        return str(error), 130
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "Interrupted.", 130
    if isinstance(error, _UsageError):
        return usage_message(error), 2
    if type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in _FULL):
        return "The GPU's memory is full; try --offload, a smaller --size, or a smaller --micro-batch in training.", 1
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f": {str(error.filename)[:_QUOTED]}"
        return f"{error.strerror}{where}.", 1
    return f"Unexpected {type(error).__name__}: {error}. --debug shows where.", 1


def usage_message(error: BaseException) -> str:
    """What is wrong with a command line, in one line."""
    words = error.format_message().split()  # type: ignore[attr-defined]
    message = " ".join(word if len(word) <= _QUOTED else f"{word[:_QUOTED]}…" for word in words)
    context = getattr(error, "ctx", None)
    name = cast(str, context.command_path) if context is not None else "arlon"
    message += "" if message.endswith((".", "?", "!")) or not message else "."
    return f"{message} See `{name} --help`.".strip()


def _prepare_torch() -> None:
    """Tell torch, imported later, what it reads from the environment.

    To ask Linux for huge pages: by small ones, a quarter of painting is page faults. And that threads which wait for
    others soon sleep: else two programs that share their cores wait for each other, thirty times as long as they work.
    """
    if _HUGE_PAGES.exists():  # torch warns where the kernel has none
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def main() -> None:
    """The console script."""

    def stop(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):  # what C code imports would lose the exception, or abort
            _exit_interrupted()
        _signalled.set()  # C code that calls Python makes other errors of an interruption
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's `&` has it ignored
        signal.signal(signal.SIGINT, stop)
    sys.stdout, sys.stderr = (_open_stream(stream) for stream in (sys.stdout, sys.stderr))
    gc.set_threshold(_GARBAGE)
    _prepare_torch()
    code = run(sys.argv[1:])
    if code == 130:  # at once: torch takes its time to unwind, and there is nothing left to save
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether Python is importing a module where a signal came."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _exit_interrupted() -> None:
    os.write(2, b"Error: Interrupted.\n")
    os._exit(130)


def _open_stream(stream: TextIO | None) -> TextIO:
    """A standard stream that takes any name of a file; nowhere, where it is closed."""
    if stream is None:
        return Path(os.devnull).open("w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape" if stream.encoding.lower() == "utf-8" else "backslashreplace")
    return stream
