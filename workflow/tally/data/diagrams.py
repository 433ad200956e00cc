"""Generated tasks that show a diagram: clocks, faces, line charts, pies."""

import math
import random

import numpy as np
from PIL import Image, ImageDraw
from tally.data import draw

Drawing = tuple[Image.Image, dict[str, float]]

FACES = ("happy", "sad", "angry", "surprised", "sleeping", "winking", "bored", "crying")
CHARTS = ("rising", "falling", "peak", "valley", "flat", "wave", "step up", "step down")


def clock(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """A tilted clock, twelve marked by a bar: an hour hand and a longer hand of minutes. Label 0 is one o'clock up to two."""
    minute = rng.randrange(12)  # in steps of five
    face = draw.shade((240, 236, 225), rng, 15)
    image = draw.blank(size, draw.shade((90, 130, 120), rng, 40))
    pen = ImageDraw.Draw(image)
    n, tilt = image.width, math.radians(rng.uniform(-24, 24))
    cx, cy, r = n * rng.uniform(0.44, 0.56), n * rng.uniform(0.44, 0.56), n * rng.uniform(0.34, 0.44)
    ink = tuple(rng.randint(0, 110) for _ in range(3))
    pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=face, outline=ink, width=max(1, n // 30))

    def hand(angle: float, start: float, stop: float, width: float) -> None:
        s, c = math.sin(angle + tilt), -math.cos(angle + tilt)
        pen.line(
            [(cx + start * r * s, cy + start * r * c), (cx + stop * r * s, cy + stop * r * c)],
            fill=ink,
            width=max(1, round(width * n)),
        )

    hand(0, 0.72, 1.1, 0.08)
    hand((label + 1 + minute / 12) * math.pi / 6, -0.12, 0.5, 0.07)
    hand(minute * math.pi / 6, -0.12, 0.82, 0.035)
    return image, {"noise": 30.0, "blur": 0.6}


def face(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """A round cartoon face in one of eight moods."""
    mood = FACES[label]
    skin = tuple(rng.randint(120, 250) for _ in range(3))
    image = draw.blank(size, draw.against(skin, rng, 0.25))
    pen = ImageDraw.Draw(image)
    n = image.width
    dark = rng.uniform(0.2, 0.7)
    ink = tuple(round(c * dark) for c in skin)
    width = max(1, round(n * rng.uniform(0.03, 0.055)))
    cx, cy, r = n * rng.uniform(0.4, 0.6), n * rng.uniform(0.4, 0.6), n * rng.uniform(0.26, 0.4)
    pen.ellipse([cx - r, cy - r * rng.uniform(0.9, 1.05), cx + r, cy + r], fill=skin)
    ex, ey, q = r * rng.uniform(0.34, 0.46), r * rng.uniform(0.15, 0.32), r * rng.uniform(0.1, 0.15)
    for side in (-1, 1):
        x, y = cx + side * ex, cy - ey
        if mood == "sleeping" or (mood == "winking" and side == 1):
            pen.line([(x - 1.6 * q, y), (x + 1.6 * q, y)], fill=ink, width=width)
        else:
            pen.ellipse([x - q, y - 1.2 * q, x + q, y + 1.2 * q], fill=ink)
        if mood == "angry":
            pen.line([(x + side * 2 * q, y - 3.4 * q), (x - side * 1.6 * q, y - 1.4 * q)], fill=ink, width=width)
        if mood == "crying":
            pen.line([(x, y + 1.5 * q), (x, y + 4.2 * q)], fill=(70, 150, 255), width=width + 1)
    mx, my, mw, mh = (
        cx + r * rng.uniform(-0.05, 0.05),
        cy + r * rng.uniform(0.38, 0.48),
        r * rng.uniform(0.34, 0.5),
        r * rng.uniform(0.18, 0.3),
    )
    if mood in ("happy", "winking"):
        pen.arc([mx - mw, my - 2 * mh, mx + mw, my + mh], 20, 160, fill=ink, width=width)
    elif mood in ("sad", "angry", "crying"):
        pen.arc([mx - mw, my - 0.4 * mh, mx + mw, my + 2.4 * mh], 200, 340, fill=ink, width=width)
    elif mood == "surprised":
        pen.ellipse([mx - 0.5 * mw, my - 1.1 * mh, mx + 0.5 * mw, my + 1.1 * mh], fill=ink)
    else:
        pen.line([(mx - 0.8 * mw, my), (mx + 0.8 * mw, my)], fill=ink, width=width)
    image = image.rotate(rng.uniform(-35, 35), Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0)))
    return image, {"noise": 34.0, "blur": 0.9}


def chart(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """A jagged line on squared paper."""
    kind, steps = CHARTS[label], 24
    t = np.linspace(0, 1, steps)
    turn, base = rng.uniform(0.35, 0.65), rng.uniform(-0.25, 0.25)
    step = np.where(t < turn, -1.0, 1.0)
    tent = 1 - 2 * np.abs(t - turn) / max(turn, 1 - turn)
    line = {
        "rising": 2 * t - 1, "falling": 1 - 2 * t, "peak": tent, "valley": -tent, "flat": 0 * t,
        "wave": np.sin(2 * math.pi * (rng.uniform(1.7, 2.6) * t + turn)), "step up": step, "step down": -step,
    }[kind]  # fmt: skip
    rough = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0.03, 0.26), steps)
    y = base + line * rng.uniform(0.2, 0.5) + rough
    image = draw.blank(size, draw.shade((238, 240, 244), rng, 12))
    pen = ImageDraw.Draw(image)
    n, cell = image.width, rng.uniform(0.15, 0.25)
    for i in range(8):
        at = i * cell * n
        pen.line([(at, 0), (at, n)], fill=(195, 208, 225), width=1)
        pen.line([(0, at), (n, at)], fill=(195, 208, 225), width=1)
    ink = tuple(rng.randint(0, 170) for _ in range(3))
    margin = n * rng.uniform(0.06, 0.16)
    for _ in range(2):  # two other courses, faint
        ends = [(x, n * rng.uniform(0.1, 0.9)) for x in (margin, n / 2, n - margin)]
        pen.line(ends, fill=tuple((c + 220) // 2 for c in ink), width=max(1, n // 40))
    points = [(margin + u * (n - 2 * margin), n / 2 - 0.42 * n * float(v)) for u, v in zip(t, y)]
    pen.line(points, fill=ink, width=max(2, round(n * rng.uniform(0.03, 0.05))), joint="curve")
    return image, {"noise": 30.0, "blur": 0.6}


def pie(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """A pie with a piece of (label + 1) tenths, give or take three hundredths; the rest is cut in two or three."""
    share = (label + 1) / 10 + rng.uniform(-0.03, 0.03)
    image = draw.blank(size, draw.shade((250, 245, 250), rng, 8))
    pen = ImageDraw.Draw(image)
    n = image.width
    r = n * rng.uniform(0.32, 0.44)
    cx, cy = (n / 2 + (n / 2 - r) * rng.uniform(-0.6, 0.6) for _ in range(2))
    piece = draw.shade((170, 60, 150), rng, 30)
    greys = [draw.shade((g, g + 10, g + 15), rng, 8) for g in rng.sample((120, 150, 180, 205), 3)]
    start = rng.uniform(0, 360)
    cuts = sorted(rng.uniform(share, 1) for _ in range(2))
    box = [cx - r, cy - r, cx + r, cy + r]
    for a, b, paint in zip((0, share, *cuts), (share, *cuts, 1), (piece, *greys)):
        pen.pieslice(box, start + 360 * a, start + 360 * b, fill=paint)
    return image, {"noise": 26.0, "blur": 0.7}
