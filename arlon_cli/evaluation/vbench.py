"""Videos as VBench takes them: `videos/PROMPT-INDEX.mp4`, and `prompts.json` with the prompts in full."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from arlon_cli.errors import ArlonError, InputError

_NAME_BYTES = 240  # file systems take 255, the index and the ending among them


def export_vbench(videos: Sequence[tuple[Path, str]], folder: Path) -> None:
    """Copy videos, given with their prompts, into a new folder; those of the same prompt are numbered from 0.

    VBench reads prompts from names, which hold them but for what no file name can; `prompts.json` is for its
    `--prompt_file`. Raises InputError where `folder` holds something, ArlonError where it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not empty; export into a new folder.")
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        numbers = Counter[str]()
        prompts = {}
        for path, prompt in videos:
            name = file_name(prompt)
            target = f"{name}-{numbers[name]}.mp4"
            numbers[name] += 1
            shutil.copyfile(path, folder / "videos" / target)
            prompts[target] = prompt
        text = json.dumps(prompts, ensure_ascii=False, indent=2) + "\n"
        (folder / "prompts.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArlonError(f"Could not export to {folder}: {error.strerror or error}.") from error


def file_name(prompt: str) -> str:
    """A prompt as part of a file name: white space and separators as spaces, cut by bytes."""
    words = prompt.replace(os.sep, " ").replace("/", " ").replace("\0", " ").split()
    return " ".join(words).encode()[:_NAME_BYTES].decode(errors="ignore").strip()
