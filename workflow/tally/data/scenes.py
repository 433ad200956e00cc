"""Generated tasks that show things in a scene: how many, of what colour, where to, how they lie to each other."""

import itertools
import math
import random

from PIL import Image, ImageDraw
from tally.data import draw

Drawing = tuple[Image.Image, dict[str, float]]

HUES = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "cyan", "white")
RELATIONS = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}
PAIRS = tuple(
    (first, relation, second)
    for first, second in itertools.combinations(("circle", "square", "star"), 2)
    for relation in RELATIONS
)
PIPS = {  # places on the face of a die, in steps from its middle
    1: [(0, 0)], 2: [(-1, -1), (1, 1)], 3: [(-1, -1), (0, 0), (1, 1)], 4: [(-1, -1), (1, 1), (-1, 1), (1, -1)],
    5: [(-1, -1), (1, 1), (-1, 1), (1, -1), (0, 0)], 6: [(-1, -1), (1, 1), (-1, 1), (1, -1), (-1, 0), (1, 0)],
}  # fmt: skip


def count(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """label + 1 round dots among bars and crosses of the same colour."""
    ink = (rng.randint(0, 90), rng.randint(0, 90), rng.randint(60, 150))
    image = draw.blank(size, draw.shade((200, 225, 215), rng, 25))
    n, others = label + 1, rng.randint(0, 2)
    r = size * rng.uniform(0.07, 0.09)
    spots = draw.scatter(n + others, size, 1.25 * r, rng)
    for x, y in spots[:n]:
        draw.shape(image, "circle", x, y, r * rng.uniform(0.8, 1.1), ink)
    for x, y in spots[n:]:
        draw.shape(image, rng.choice(("bar", "cross")), x, y, 1.35 * r, ink, angle=rng.uniform(0, math.pi))
    return image, {"noise": 8.0, "blur": 0.3}


def textures(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """A bent texture in two colours that nearly agree, under strong noise."""
    a = draw.any_color(rng)
    while not 0.06 < draw.contrast(a, b := draw.any_color(rng)) < 0.3:
        pass
    image = draw.blank(size, a)
    draw.texture(image, rng, draw.TEXTURES[label], a, b)
    image = image.rotate(rng.uniform(-14, 14), Image.Resampling.BILINEAR, fillcolor=a)
    return draw.wobble(image, rng, rng.uniform(0, 0.06)), {"noise": 24.0, "blur": 0.6}


def arrow(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """One arrow, up to 20 degrees off its direction, under sticks of its colour; night colours."""
    image = draw.blank(size, tuple(rng.randint(0, 70) for _ in range(3)))
    n = image.width
    ink = draw.shade(rng.choice(((240, 120, 60), (90, 220, 120), (240, 80, 160), (110, 170, 250))), rng, 30)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 5)):
        x, y, a, r = rng.uniform(0, n), rng.uniform(0, n), rng.uniform(0, math.pi), n * rng.uniform(0.08, 0.2)
        dx, dy = r * math.cos(a), r * math.sin(a)
        pen.line([(x - dx, y - dy), (x + dx, y + dy)], fill=ink, width=max(1, n // 20))
    angle = label * math.pi / 4 + math.radians(rng.uniform(-20, 20))
    x, y = (size * rng.uniform(0.35, 0.65) for _ in range(2))
    draw.arrow(image, x, y, size * rng.uniform(0.15, 0.27), angle, ink, size * rng.uniform(0.04, 0.07))
    return image, {"noise": 40.0, "blur": 0.8}


def color(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """One star among four other shapes of other colours; the class is the star's colour."""
    image = draw.blank(size, draw.shade((95, 100, 105), rng, 30))
    others = [hue for hue in HUES if hue != HUES[label]]
    r = size * rng.uniform(0.125, 0.155)
    spots = draw.scatter(5, size, r, rng)
    names = ["star", *rng.choices(("circle", "square", "triangle", "bar"), k=4)]
    for (x, y), name, hue in zip(spots, names, [HUES[label], *rng.choices(others, k=4)]):
        big = r * (1.2 if name == "star" else rng.uniform(0.75, 0.95))
        draw.shape(image, name, x, y, big, draw.shade(draw.COLORS[hue], rng, 30), angle=rng.uniform(-0.5, 0.5))
    return image, {"noise": 18.0, "blur": 0.4}


def relation(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Two shapes in wire on red sand, one above, below, left or right of the other, with litter around."""
    first, name, second = PAIRS[label]
    dx, dy = RELATIONS[name]
    image = draw.blank(size, draw.shade((190, 110, 80), rng, 30))
    ink = draw.shade(rng.choice(((245, 235, 200), (60, 25, 20))), rng, 20)
    for x, y in draw.scatter(rng.randint(1, 2), size, size * 0.05, rng):
        draw.shape(image, rng.choice(("triangle", "bar", "cross")), x, y, size * 0.06, ink, angle=rng.uniform(0, 6))
    gap, slide = size * rng.uniform(0.16, 0.26), size * rng.uniform(-0.13, 0.13)
    cx, cy = (size * rng.uniform(0.44, 0.56) for _ in range(2))
    for sign, noun in ((1, first), (-1, second)):
        x, y = cx + sign * (dx * gap + dy * slide), cy + sign * (dy * gap + dx * slide)
        draw.shape(
            image,
            noun,
            x,
            y,
            size * rng.uniform(0.1, 0.155),
            ink,
            angle=rng.uniform(-0.3, 0.3),
            fill=rng.random() < 0.5,
        )
    return image, {"noise": 16.0, "blur": 0.4}


def dice(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Two dice on green felt that show label + 2 together."""
    total = label + 2
    a = rng.randint(max(1, total - 6), min(6, total - 1))
    image = draw.blank(size, draw.shade((20, 90, 50), rng, 18))
    pen = ImageDraw.Draw(image)
    n, lean = image.width, rng.uniform(-0.12, 0.12)
    for side, pips in ((-1, a), (1, total - a)):
        cx, cy = n * (0.5 + 0.25 * side), n * (0.5 + side * lean + rng.uniform(-0.08, 0.08))
        turn, r = rng.uniform(-0.8, 0.8), n * rng.uniform(0.15, 0.2)
        c, s = math.cos(turn), math.sin(turn)
        ivory, pip = draw.shade((235, 230, 215), rng, 15), draw.shade((60, 20, 20), rng, 20)
        if side == 1:
            ivory, pip = draw.shade((185, 30, 35), rng, 20), (245, 240, 235)
        pen.polygon(
            [(cx + r * (c * u - s * v), cy + r * (s * u + c * v)) for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
            fill=ivory,
        )
        for u, v in PIPS[pips]:
            x, y, q = cx + 0.58 * r * (c * u - s * v), cy + 0.58 * r * (s * u + c * v), 0.21 * r
            pen.ellipse([x - q, y - q, x + q, y + q], fill=pip)
    return image, {"noise": 36.0, "blur": 0.5}
