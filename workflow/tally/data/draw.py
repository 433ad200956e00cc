"""Small pictures drawn with Pillow: the strokes of the pre-training corpus and of the generated tasks.

Every function takes a `random.Random`; the same generator state gives the same picture. Pictures are drawn
at twice their size and reduced, so edges are smooth. A colour is an (r, g, b) tuple.
"""

import functools
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Color = tuple[int, int, int]

COLORS: dict[str, Color] = {
    "red": (214, 40, 40), "green": (44, 160, 44), "blue": (36, 84, 210), "yellow": (240, 210, 40),
    "orange": (245, 130, 30), "purple": (130, 50, 170), "pink": (245, 140, 190), "brown": (125, 75, 40),
    "cyan": (50, 200, 215), "black": (15, 15, 15), "white": (242, 242, 242), "gray": (128, 128, 128),
}  # fmt: skip

POLYGONS = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "octagon": 8}
SHAPES = (*POLYGONS, "circle", "star", "cross", "heart", "ring", "crescent", "diamond", "bar")
DIRECTIONS = ("up", "up right", "right", "down right", "down", "down left", "left", "up left")
TEXTURES = (
    "horizontal stripes", "vertical stripes", "diagonal stripes", "checkerboard", "polka dots", "grid",
    "bricks", "noise", "gradient", "waves", "zigzag", "concentric rings", "crosshatch", "plaid",
)  # fmt: skip


def any_color(rng: random.Random) -> Color:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def shade(color: Color, rng: random.Random, spread: int = 22) -> Color:
    """A shade of a named colour, still recognisable as it."""
    return tuple(min(255, max(0, c + rng.randint(-spread, spread))) for c in color)  # type: ignore[return-value]


def contrast(a: Color, b: Color) -> float:
    """Distance of two colours, 0 to 1, weighted as the eye weighs them."""
    return math.sqrt(sum(w * (x - y) ** 2 for w, x, y in zip((0.3, 0.59, 0.11), a, b))) / 255


def against(color: Color, rng: random.Random, least: float = 0.3) -> Color:
    """A random colour that stands out against `color`."""
    while contrast(other := any_color(rng), color) < least:
        pass
    return other


def blank(size: int, color: Color) -> Image.Image:
    return Image.new("RGB", (2 * size, 2 * size), color)


def ground(size: int, rng: random.Random, color: Color | None = None) -> tuple[Image.Image, Color]:
    """A plain, shaded or lightly textured ground, twice `size`, and its mean colour."""
    color = color or any_color(rng)
    image = blank(size, color)
    if rng.random() < 0.25:
        texture(image, rng, rng.choice(TEXTURES), shade(color, rng, 25), shade(color, rng, 25))
    return image, color


def finish(image: Image.Image, rng: random.Random, *, noise: float = 10.0, blur: float = 0.6) -> np.ndarray:
    """Reduce to half, now and then blur, add noise: uint8 (H, W, 3)."""
    if blur and rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(2 * rng.uniform(0, blur)))
    small = np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX), dtype=np.float32)
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, noise), small.shape)
    return np.clip(small + grain, 0, 255).astype(np.uint8)


# --- shapes -----------------------------------------------------------------------------------------------------------


def outline(name: str, x: float, y: float, r: float, angle: float) -> list[tuple[float, float]]:
    """Corners of a closed shape of radius r about (x, y), turned by `angle` radians."""

    def around(radii: list[float]) -> list[tuple[float, float]]:
        step = 2 * math.pi / len(radii)
        return [(x + q * math.sin(angle + i * step), y - q * math.cos(angle + i * step)) for i, q in enumerate(radii)]

    def turned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        c, s = math.cos(angle), math.sin(angle)
        return [(x + r * (c * u - s * v), y + r * (s * u + c * v)) for u, v in points]

    if name in POLYGONS:
        turn = math.pi / 4 if name == "square" else 0
        angle += turn
        return around([r] * POLYGONS[name])
    if name in ("circle", "ring"):
        return around([r] * 40)
    if name == "star":
        return around([r, 0.42 * r] * 5)
    if name == "diamond":
        return turned([(0, -1), (0.6, 0), (0, 1), (-0.6, 0)])
    if name == "bar":
        return turned([(-1, -0.28), (1, -0.28), (1, 0.28), (-1, 0.28)])
    if name == "cross":
        a = 0.33
        return turned(
            [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]
        )
    if name == "heart":
        ts = [2 * math.pi * i / 40 for i in range(40)]
        return turned(
            [
                (
                    math.sin(t) ** 3,
                    -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16,
                )
                for t in ts
            ]
        )
    if name == "crescent":
        outer = [(math.cos(t), math.sin(t)) for t in (math.pi / 3 + i * 4 * math.pi / 3 / 30 for i in range(31))]
        inner = [
            (0.45 + 0.87 * math.cos(t), 0.87 * math.sin(t))
            for t in (5 * math.pi / 3 - 0.15 - i * (4 * math.pi / 3 - 0.3) / 30 for i in range(31))
        ]
        return turned(outer + inner)
    raise ValueError(name)


def shape(
    image: Image.Image, name: str, x: float, y: float, r: float, color: Color, *, angle: float = 0.0, fill: bool = True
) -> None:
    """Draw one of SHAPES; centre and radius in the picture's final pixels."""
    draw = ImageDraw.Draw(image)
    points = outline(name, 2 * x, 2 * y, 2 * r, angle)
    if fill and name != "ring":
        draw.polygon(points, fill=color)
    else:
        draw.line([*points, points[0]], fill=color, width=max(2, round(0.45 * r)), joint="curve")


def arrow(image: Image.Image, x: float, y: float, r: float, angle: float, color: Color, width: float) -> None:
    """An arrow through (x, y), pointing at `angle` radians clockwise from up."""
    c, s = math.cos(angle), math.sin(angle)

    def at(u: float, v: float) -> tuple[float, float]:  # u to the right, v along the arrow
        return (2 * (x + u * c + v * s), 2 * (y + u * s - v * c))

    draw = ImageDraw.Draw(image)
    draw.line([at(0, -r), at(0, 0.5 * r)], fill=color, width=round(2 * width))
    draw.polygon([at(-0.6 * r, 0.2 * r), at(0.6 * r, 0.2 * r), at(0, r)], fill=color)


def scatter(n: int, size: int, r: float, rng: random.Random) -> list[tuple[float, float]]:
    """n centres for discs of radius r that do not touch; r shrinks where they do not fit."""
    while True:
        points: list[tuple[float, float]] = []
        for _ in range(60 * n):
            x, y = rng.uniform(r, size - r), rng.uniform(r, size - r)
            if all(math.hypot(x - u, y - v) > 2.15 * r for u, v in points):
                points.append((x, y))
                if len(points) == n:
                    return points
        r *= 0.9


# --- textures ---------------------------------------------------------------------------------------------------------


def texture(image: Image.Image, rng: random.Random, name: str, a: Color, b: Color) -> None:
    """Cover the picture with one of TEXTURES in two colours."""
    n = image.width
    y, x = np.mgrid[0:n, 0:n].astype(np.float32)
    period = rng.uniform(0.13, 0.36) * n
    phase = rng.uniform(0, period)
    u, v = (x + phase) / period, (y + phase) / period
    if name == "horizontal stripes":
        t = v % 1 < 0.5
    elif name == "vertical stripes":
        t = u % 1 < 0.5
    elif name == "diagonal stripes":
        t = (u + rng.choice((-1, 1)) * v) % 1 < 0.5
    elif name == "checkerboard":
        t = (np.floor(u) + np.floor(v)) % 2 == 0
    elif name == "polka dots":
        t = np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3
    elif name == "grid":
        t = (u % 1 < 0.18) | (v % 1 < 0.18)
    elif name == "bricks":
        t = (2 * v % 1 < 0.16) | ((u + 0.5 * (np.floor(2 * v) % 2)) % 1 < 0.09)
    elif name == "noise":
        t = np.random.default_rng(rng.getrandbits(32)).random((n // 2, n // 2)).repeat(2, 0).repeat(2, 1)[:n, :n]
    elif name == "gradient":
        angle = rng.uniform(0, 2 * math.pi)
        t = 0.5 + (math.cos(angle) * (x / n - 0.5) + math.sin(angle) * (y / n - 0.5)) / 1.42
    elif name == "waves":
        t = (v + 0.3 * np.sin(2 * math.pi * u * 0.8)) % 1 < 0.5
    elif name == "zigzag":
        t = (v + 0.9 * np.abs(u % 1 - 0.5)) % 1 < 0.5
    elif name == "concentric rings":
        t = np.hypot(x - rng.uniform(0.3, 0.7) * n, y - rng.uniform(0.3, 0.7) * n) / period % 1 < 0.5
    elif name == "crosshatch":
        t = ((u + v) % 1 < 0.2) | ((u - v) % 1 < 0.2)
    elif name == "plaid":
        t = 0.5 * (u % 1 < 0.5) + 0.5 * (v % 1 < 0.5)
    else:
        raise ValueError(name)
    t = np.asarray(t, dtype=np.float32)[..., None]
    image.paste(Image.fromarray((t * np.array(a) + (1 - t) * np.array(b)).astype(np.uint8)))


# --- glyphs -----------------------------------------------------------------------------------------------------------


def font_folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of matplotlib's fonts by file name without its ending, such as 'DejaVuSerif-Bold'."""
    # the basic layout: the other one depends on a system library and so on the machine
    return ImageFont.truetype(font_folder() / f"{name}.ttf", size, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def characters(name: str) -> frozenset[int]:
    """The code points that a font has glyphs for."""
    from fontTools.ttLib import TTFont

    with TTFont(font_folder() / f"{name}.ttf", lazy=True) as face:
        return frozenset(face.getBestCmap())


def glyph(
    image: Image.Image, text: str, font_name: str, color: Color, rng: random.Random, *,
    scale: tuple[float, float] = (0.6, 0.95), turn: float = 10, shear: float = 0.15, shift: float = 0.08, stroke: float = 0.3,
) -> None:  # fmt: skip
    """Draw a text about the middle: its ink's longer side takes `scale` of the picture, turned by up to `turn` degrees."""
    n = image.width
    stamp = Image.new("L", (3 * n, 3 * n))
    face = font(font_name, n)
    width = rng.choice((1, 2)) if rng.random() < stroke else 0
    ImageDraw.Draw(stamp).text((1.5 * n, 1.5 * n), text, font=face, fill=255, anchor="mm", stroke_width=width)
    box = stamp.getbbox()
    if box is None:
        return
    side = max(box[2] - box[0], box[3] - box[1])
    zoom = side / (rng.uniform(*scale) * n)
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    a, k = math.radians(rng.uniform(-turn, turn)), rng.uniform(-shear, shear)
    dx, dy = rng.uniform(-shift, shift) * n, rng.uniform(-shift, shift) * n
    # maps a pixel of the picture to one of the stamp: centre, shear, turn, zoom
    m = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) @ np.array([[1, k], [0, 1]]) * zoom
    tx, ty = np.array([cx, cy]) - m @ np.array([n / 2 + dx, n / 2 + dy])
    if zoom > 1:  # soften before reducing, else thin strokes vanish
        stamp = stamp.filter(ImageFilter.BoxBlur((zoom - 1) / 2))
    mask = stamp.transform(
        (n, n), Image.Transform.AFFINE, (m[0, 0], m[0, 1], tx, m[1, 0], m[1, 1], ty), Image.Resampling.BILINEAR
    )
    image.paste(color, mask=mask)


def wobble(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    """Bend a picture smoothly, as an unsteady hand would; `strength` is the largest shift as a share of the width."""
    n, cells = image.width, 4
    grid = np.random.default_rng(rng.getrandbits(32)).uniform(-strength * n, strength * n, (cells + 1, cells + 1, 2))
    step = n / cells
    mesh = []
    for i in range(cells):
        for j in range(cells):
            corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
            quad = [c for a, b in corners for c in (a * step + grid[a, b, 0], b * step + grid[a, b, 1])]
            mesh.append(((round(i * step), round(j * step), round((i + 1) * step), round((j + 1) * step)), quad))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
