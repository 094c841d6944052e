"""What a diorama shows: its family, and the attributes of each of its spans, drawn from a seed."""

import random
from dataclasses import dataclass, replace

FPS = 24
TRANSITION_SECONDS = 1.5
SHORTEST_CHANGING_CLIP = 48
USUAL_STATE = 150  # frames of each state, where there are more than two
HELD_OUT = 1 << 40
SCENE_FRAMES = 256
"""Of a scene as training and evaluation have them; its first state lasts at least 107 of them"""

"""Scenes from this seed on are never trained on."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "family": (
        "volcano",
        "coast",
        "aquarium",
        "bear",
        "sailboat",
        "balloon",
        "lake",
        "city",
        "waterfall",
        "aurora",
        "lighthouse",
        "campfire",
    ),
    "time": ("dawn", "day", "sunset", "night"),
    "weather": ("clear", "cloudy", "rain", "snow", "fog", "storm", "none"),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "brown", "none"),
    "count": ("one", "two", "three", "many", "none"),
    "state": ("dormant", "erupting", "calm", "rough", "burning", "smouldering", "none"),
    "direction": ("left", "right", "none"),
    "speed": ("slow", "fast", "none"),
    "camera": ("still", "pan left", "pan right", "zoom in", "zoom out", "drift"),
    "company": ("sailboat", "balloon", "both", "none"),
}
FAMILIES = ATTRIBUTES["family"]


@dataclass(frozen=True)
class DioramaSpan:
    """Frames `start` (inclusive) to `end` (exclusive) with one value for every attribute of `ATTRIBUTES`."""

    start: int
    end: int
    attributes: dict[str, str]

    @property
    def settled(self) -> int:
        """The frame from which all looks as the attributes say; a later span blends in from the one before it."""
        return min(self.end, self.start + round(TRANSITION_SECONDS * FPS)) if self.start else 0


@dataclass(frozen=True)
class Scene:
    """One diorama. From the start of a later span its state blends, within `TRANSITION_SECONDS`, into the new one."""

    seed: int
    family: str
    num_frames: int
    spans: tuple[DioramaSpan, ...]

    @property
    def company(self) -> str:
        """What else it shows, all the time: a value of "company"."""
        return self.spans[0].attributes["company"]

    def alone(self) -> "Scene":
        """The same scene without its company."""
        spans = [replace(span, attributes=span.attributes | {"company": "none"}) for span in self.spans]
        return replace(self, spans=tuple(spans))


ANY_TIME = ("dawn", "day", "sunset", "night")
ANY_WEATHER = ("clear", "cloudy", "rain", "snow", "fog", "storm")
ANY_CAMERA = ATTRIBUTES["camera"]

# What each attribute may be, and which may change in the middle; attributes that are left out are "none".
LEGAL: dict[str, dict[str, tuple[str, ...]]] = {
    "volcano": {
        "time": ANY_TIME,
        "weather": ("clear", "clear", "cloudy", "rain", "snow", "fog", "storm"),
        "state": ("dormant", "erupting"),
        "camera": ANY_CAMERA,
        "changes": ("state", "state", "state and weather", "state and weather", "time", "weather"),
    },
    "coast": {
        "time": ("day", "day", "day", "dawn", "sunset", "night"),
        "weather": ("clear", "clear", "clear", "rain", "fog"),
        "state": ("calm", "rough"),
        "camera": ANY_CAMERA,
        "changes": ("state", "time", "weather"),
    },
    "aquarium": {
        "time": ("day", "day", "night"),
        "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
        "count": ("one", "two", "three", "many"),
        "direction": ("left", "right"),
        "speed": ("slow", "fast"),
        "camera": ANY_CAMERA,
        "changes": ("time",),
    },
    "bear": {
        "time": ANY_TIME,
        "weather": ("clear", "clear", "cloudy", "rain", "snow", "fog", "storm"),
        "colour": ("brown", "brown", "white", "pink", "blue"),
        "state": ("calm", "rough"),
        "direction": ("left", "right"),
        "speed": ("slow", "fast"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather", "state"),
    },
    "sailboat": {
        "time": ANY_TIME,
        "weather": ANY_WEATHER,
        "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
        "state": ("calm", "rough"),
        "direction": ("left", "right"),
        "speed": ("slow", "fast"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather", "state"),
    },
    "balloon": {
        "time": ANY_TIME,
        "weather": ("clear", "cloudy", "snow", "fog", "rain"),
        "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
        "count": ("one", "two", "three"),
        "direction": ("left", "right"),
        "speed": ("slow", "fast"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather"),
    },
    "lake": {
        "time": ANY_TIME,
        "weather": ANY_WEATHER,
        "camera": ANY_CAMERA,
        "changes": ("time", "weather"),
    },
    "campfire": {
        "time": ("night", "night", "sunset"),
        "weather": ("clear", "clear", "snow", "fog", "rain"),
        "state": ("burning", "burning", "smouldering"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather", "state"),
    },
    "lighthouse": {
        "time": ANY_TIME,
        "weather": ANY_WEATHER,
        "colour": ("red", "blue", "green", "yellow", "white"),
        "state": ("calm", "rough"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather", "state"),
    },
    "city": {
        "time": ("night", "night", "dawn", "day", "sunset"),
        "weather": ANY_WEATHER,
        "direction": ("left", "right"),
        "speed": ("slow", "fast"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather"),
    },
    "waterfall": {
        "time": ANY_TIME,
        "weather": ("clear", "cloudy", "rain", "snow", "fog"),
        "camera": ANY_CAMERA,
        "changes": ("time", "weather"),
    },
    "aurora": {
        "time": ("night",),
        "weather": ("clear", "clear", "snow"),
        "colour": ("green", "green", "purple", "pink", "blue"),
        "speed": ("slow", "fast"),
        "camera": ANY_CAMERA,
        "changes": ("colour", "weather"),
    },
}

COMPANY: dict[str, tuple[str, ...]] = {
    "volcano": ("balloon",),
    "bear": ("sailboat", "balloon", "both"),
    "sailboat": ("balloon",),
    "lake": ("sailboat", "balloon", "both"),
    "city": ("balloon",),
    "waterfall": ("balloon",),
    "lighthouse": ("sailboat", "balloon", "both"),
}
"""What else two scenes of five of a family show, all the time, where there is no storm and nothing erupts."""

COUNTED = tuple(family for family, legal in LEGAL.items() if "count" in legal)
"""Families whose subjects are one or several"""


def sample_scene(seed: int, *, family: str | None = None, num_frames: int, changing: bool | None = None) -> Scene:
    """Draw a scene that depends on the arguments alone.

    Half of them change their state near the middle, or all that can with `changing`, or none if it is False; those of
    more than two states' usual length change again and again.
    """
    draw = random.Random(f"scene {seed}")
    family = family or draw.choice(FAMILIES)
    legal = LEGAL[family]
    first = dict.fromkeys(ATTRIBUTES, "none") | {"family": family}
    for name, values in legal.items():
        if name in ATTRIBUTES:
            first[name] = draw.choice(values)
    if draw.random() < 0.3:
        first["camera"] = "still"
    second = _changed(first, draw.choice(legal["changes"]), draw)
    states = [_settled(first), _settled(second)]
    by_chance = draw.random() < 0.5
    changes = by_chance if changing is None else changing
    if not changes or num_frames < SHORTEST_CHANGING_CLIP or states[0] == states[1]:
        company = _company(seed, states[:1])
        return Scene(seed, family, num_frames, (DioramaSpan(0, num_frames, states[0] | company),))
    count = max(2, round(num_frames / USUAL_STATE))
    later = random.Random(f"scene {seed} later")
    while len(states) < count:
        state = _settled(_changed(states[-1], later.choice(legal["changes"]), later))
        states += [state] if state != states[-1] else []
    starts = [round(num_frames * (index + 2 * draw.uniform(0.42, 0.58)) / count) for index in range(count - 1)]
    bounds = zip([0, *starts], [*starts, num_frames], states, strict=True)
    company = _company(seed, states)
    spans = tuple(DioramaSpan(start, end, state | company) for start, end, state in bounds)
    return Scene(seed, family, num_frames, spans)


def _changed(attributes: dict[str, str], change: str, draw: random.Random) -> dict[str, str]:
    """The attributes after a change of one of them, or of a volcano's whole mood."""
    family = attributes["family"]
    if change == "state and weather":
        quiet = attributes | {"state": "dormant", "weather": "clear"}
        wild = attributes | {"state": "erupting", "weather": "storm"}
        return wild if attributes["state"] == "dormant" else quiet
    others = [value for value in LEGAL[family][change] if value != attributes[change]]
    return attributes | {change: draw.choice(others)}


def _company(seed: int, states: list[dict[str, str]]) -> dict[str, str]:
    """The company of a scene of these states, by numbers of its own."""
    draw = random.Random(f"scene {seed} company")
    values = COMPANY.get(states[0]["family"], ())
    wild = any(state["weather"] == "storm" or state["state"] == "erupting" for state in states)
    return {"company": draw.choice(values) if values and not wild and draw.random() < 0.4 else "none"}


def _settled(attributes: dict[str, str]) -> dict[str, str]:
    """No calm sea in a storm."""
    if attributes["weather"] == "storm" and attributes["state"] == "calm":
        return attributes | {"state": "rough"}
    return attributes
