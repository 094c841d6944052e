"""What a caption says and what it leaves out, told from the grammar's own words."""

import re
from functools import cache

from arlon_cli.dioramas.grammar import CHANGES, GRAMMAR

_SYMBOL = re.compile(r"\{\w+\}")
_PART = re.compile(r"\{\w+\}|\[|\]|\ban? |[^{}\[\]]")


def mentioned(caption: str, attributes: dict[str, str]) -> frozenset[str]:
    """Which of a span's attributes its caption tells: the family always, another by any phrase of its value."""
    text = " ".join(caption.lower().split())
    said = {name for name, value in attributes.items() if any(p.search(text) for p in _phrases(name, value))}
    return frozenset(said | {"family"})


@cache
def _phrases(name: str, value: str) -> tuple[re.Pattern[str], ...]:
    """The expansions of all rules for a value of an attribute, each as a pattern.

    The paper's own prompts do not count: some tell less than the values that they are for.
    """
    if name == "family" or value == "none":
        return ()
    rules = [*GRAMMAR.items(), *CHANGES.items()]
    told = [pieces for rule, pieces in rules if rule.split()[-1] == value and " prompt " not in rule]
    distinct = dict.fromkeys(piece for pieces in told for piece in pieces)
    return tuple(re.compile(_pattern(piece)) for piece in distinct if _SYMBOL.sub("", piece).strip())


def _pattern(piece: str) -> str:
    """A piece of the grammar as a pattern: symbols stand for any words within a sentence, `[...]` may be missing."""
    signs = {"[": "(?:", "]": ")?", "a ": "an? ", "an ": "an? "}
    parts = [r"[^.]*?" if part[0] == "{" else signs.get(part) or re.escape(part) for part in _PART.findall(piece)]
    return rf"\b{''.join(parts)}\b"
