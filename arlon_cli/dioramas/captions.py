"""Captions from a grammar: what a span shows, said in three words or in three lines."""

import random
import re

from arlon_cli.dioramas.grammar import CHANGES, GRAMMAR
from arlon_cli.dioramas.scene import FAMILIES, LEGAL, Scene

MAX_TOKENS = 75
_SYMBOL = re.compile(r"\{(\w+)\}")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_TOKEN = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


def tokens(text: str) -> list[str]:
    """Lower-case words and punctuation marks, one by one."""
    return _TOKEN.findall(text.lower())


def caption(scene: Scene, span_index: int, seed: int) -> str:
    """One of many ways to describe a span of a scene, at most `MAX_TOKENS` tokens long.

    It names true attributes of the span but leaves some out, never its company; a later span may be told as a change.
    """
    draw = random.Random(f"caption {scene.seed} {span_index} {seed}")
    attributes = scene.spans[span_index].attributes
    styles = ("tag", "short", "medium", "long", "prompt")
    while True:
        style = draw.choices(styles, (3, 5, 5, 5, 3))[0]
        text = _expand(f"{{{style}}}", attributes, draw)
        if span_index > 0 and draw.random() < 0.3:
            text = _as_change(text, scene.spans[span_index - 1].attributes, attributes, draw)
        text = _tidy(_in_company(text, style, attributes["company"], draw))
        if text and len(tokens(text)) <= MAX_TOKENS:
            return text if draw.random() < 0.85 else text.lower().rstrip(".")


def vocabulary() -> list[str]:
    """Every token that `caption` can emit, sorted."""
    unpainted = set(LEGAL) - set(FAMILIES)
    rules = [*GRAMMAR.items(), *CHANGES.items()]
    pieces = [piece for name, pieces in rules if name.split()[0] not in unpainted for piece in pieces]
    words = {word for piece in pieces for word in tokens(_SYMBOL.sub(" ", piece.replace("[", " ").replace("]", " ")))}
    return sorted(words | {"a", "an", ".", ","})


def _as_change(text: str, before: dict[str, str], after: dict[str, str], draw: random.Random) -> str:
    """Tell the span as what has become of the one before it."""
    changed = [name for name in ("state", "weather", "time", "colour") if before[name] != after[name]]
    if not changed:
        return text
    name = draw.choice(changed)
    options = CHANGES.get(f"{name} {after[name]}", ())
    if not options:
        return text
    told = _expand(draw.choice(options), after, draw)
    return f"{told}. {text}" if draw.random() < 0.7 else told


def _in_company(text: str, style: str, company: str, draw: random.Random) -> str:
    """Tell what else is to be seen: behind a single phrase, or in a sentence of its own."""
    if company == "none":
        return text
    if style in ("tag", "short") and "." not in text:
        return f"{text} {draw.choice(GRAMMAR[f'company {company}'])}"
    return f"{text}. {draw.choice(GRAMMAR[f'companyclause {company}'])}."


def _expand(template: str, attributes: dict[str, str], draw: random.Random) -> str:
    """Replace `{symbol}` by one of its expansions and keep `[optional]` parts half of the time, innermost first."""
    while _OPTIONAL.search(template):
        template = _OPTIONAL.sub(lambda match: match.group(1) if draw.random() < 0.5 else "", template)
    return _SYMBOL.sub(lambda match: _expand(_choose(match.group(1), attributes, draw), attributes, draw), template)


def _choose(symbol: str, attributes: dict[str, str], draw: random.Random) -> str:
    """An expansion of a symbol: from the most special rule that there is for the family and the attributes' values."""
    family = attributes["family"]
    if symbol == "prompt":
        rule = f"{family} prompt {attributes['state']} {attributes['weather']}"
        return draw.choice(GRAMMAR.get(rule) or ("{long}",))
    values = [attributes[symbol]] if symbol in attributes else list(attributes.values())
    rules = [f"{family} {symbol} {value}" for value in values] + [f"{symbol} {value}" for value in values]
    if symbol not in attributes:
        rules += [f"{family} {symbol}", symbol]
    return draw.choice(next((GRAMMAR[rule] for rule in rules if rule in GRAMMAR), ("",)))


def _tidy(text: str) -> str:
    """Spaces, articles, capitals and the full stop."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([.,])", r"\1", text)
    text = re.sub(r"([.,])[.,]+", r".", text)
    text = re.sub(r"\b([Aa])n?\s+(?=(\w))", lambda m: f"{m[1]}n " if m[2].lower() in "aeiou" else f"{m[1]} ", text)
    sentences = [part.strip(" ,") for part in text.split(".")]
    sentences = [part[0].upper() + part[1:] for part in sentences if part]
    return ". ".join(sentences) + "." if len(sentences) > 1 or len(text.split()) > 4 else "".join(sentences)
