"""The colours that captions name."""

from arlon_cli.dioramas.painter import RGB

PAINTS: dict[str, RGB] = {
    "red": (0.86, 0.10, 0.10),
    "orange": (0.98, 0.50, 0.06),
    "yellow": (0.98, 0.84, 0.12),
    "green": (0.12, 0.66, 0.22),
    "blue": (0.10, 0.32, 0.90),
    "purple": (0.54, 0.18, 0.76),
    "pink": (0.98, 0.46, 0.68),
    "white": (0.96, 0.96, 0.95),
    "brown": (0.55, 0.34, 0.17),
}
