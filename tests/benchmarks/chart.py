"""A chart with two logarithmic axes, as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 210, 20, 50
FONT = 'font-family="sans-serif" font-size="12"'
Place = Callable[[float, float], tuple[float, float]]
COLOURS = ("#1f5fa8", "#8fb4dc", "#b3541e", "#e2b48f", "#2e7d4f", "#777777", "#7b3fa0")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name and its points."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(lines: Sequence[Line], across: str, up: str) -> str:
    """The chart of these curves with the names of its axes."""
    points = [point for line in lines for point in line.points]
    xs, ys = _decades([x for x, _ in points]), _decades([max(y, 1e-3) for _, y in points])
    inside_w, inside_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - xs[0]) / max(xs[1] - xs[0], 1)
        height = (math.log10(max(y, 1e-3)) - ys[0]) / max(ys[1] - ys[0], 1)
        return LEFT + right * inside_w, TOP + (1 - height) * inside_h

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for decade in range(xs[0], xs[1] + 1):
        x, _ = place(10**decade, 10 ** ys[0])
        parts.append(f'<line x1="{x:.0f}" y1="{TOP}" x2="{x:.0f}" y2="{TOP + inside_h}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 30}" text-anchor="middle">{10**decade:,}</text>')
    for decade in range(ys[0], ys[1] + 1):
        _, y = place(10 ** xs[0], 10.0**decade)
        parts.append(f'<line x1="{LEFT}" y1="{y:.0f}" x2="{LEFT + inside_w}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{10.0**decade:g}</text>')
    for number, line in enumerate(lines):
        parts += _curve(line, number, place)
    parts.append(
        f'<text x="{LEFT + inside_w / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(
        f'<text x="16" y="{TOP + inside_h / 2}" transform="rotate(-90 16 {TOP + inside_h / 2})">{escape(up)}</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(line: Line, number: int, place: Place) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    at = [place(x, y) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    height, beside = TOP + 14 + 18 * number, WIDTH - RIGHT + 16
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at),
        f'<rect x="{beside}" y="{height - 1}" width="24" height="2" fill="{colour}"/>',
        f'<text x="{beside + 30}" y="{height + 4}">{escape(line.name)}</text>',
    ]


def _decades(values: Sequence[float]) -> tuple[int, int]:
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
