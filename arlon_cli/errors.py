"""The errors that arlon raises on purpose; `cli/` turns each into one line and an exit code.

ArlonError              exit 1: the job failed (disk full, decoder failed)
├── InputError          exit 2: what the user gave is wrong (prompt, file, option)
└── CheckpointError     exit 2: weights that are missing, damaged or of another model
"""


class ArlonError(Exception):
    """A failure that has a sentence for the user."""

    exit_code = 1


class InputError(ArlonError):
    """The user's input is wrong; no result was written."""

    exit_code = 2


class CheckpointError(ArlonError):
    """A checkpoint is missing, damaged, or does not fit the model that it names."""

    exit_code = 2


def first_line(error: Exception) -> str:
    """What an error of another library says, as one sentence; its kind where it says nothing."""
    line = str(error).strip().split("\n")[0] or type(error).__name__
    return line if line.endswith(".") else f"{line}."
