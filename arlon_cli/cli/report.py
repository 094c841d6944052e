"""Reports that commands write."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arlon_cli.errors import ArlonError

if TYPE_CHECKING:
    from arlon_cli.evaluation.report import Section


def write_report(path: Path, title: str, sections: "Sequence[Section]") -> None:
    """Write a report, a single .html file. Raises ArlonError where that is not possible."""
    from arlon_cli.evaluation.report import to_html
    from arlon_cli.storage.partial import write_whole

    try:
        write_whole(path, to_html(title, sections).encode())
    except OSError as error:
        raise ArlonError(f"Could not write {path}: {error.strerror or error}.") from error
