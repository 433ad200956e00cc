"""The image-caption corpus that the embedded base model learns from.

Printed characters under their Unicode names, coloured shapes in numbers, places and sizes, textures, arrows,
clocks, words and numbers. No handwriting, no clothes, no emoji, and of the world's scripts only Latin, Greek
and Cyrillic: the benchmark's tasks stay new to the model that is fine-tuned on them.
"""

import functools
import math
import random
import unicodedata

import numpy as np
from tally.data import draw

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
PLACES = {
    (x, y): f"{v} {h}".strip() if (v, h) != ("middle", "middle") else "middle"
    for y, v in enumerate(("top", "middle", "bottom"))
    for x, h in enumerate(("left", "middle", "right"))
}
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "STIXGeneral",
    "STIXGeneralBol",
)
BLOCKS = (  # code points, first and last
    (0x21, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x2010, 0x205E), (0x20A0, 0x20B5), (0x2100, 0x214B),
    (0x2150, 0x218B), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2300, 0x23CF), (0x2500, 0x257F), (0x2580, 0x259F),
    (0x25A0, 0x25FF), (0x2600, 0x26B8), (0x2701, 0x27BE), (0x27E6, 0x27EB), (0x27F5, 0x27FF),
)  # fmt: skip


@functools.cache
def alphabet() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Every character of BLOCKS that has a name and a glyph, with the fonts that draw it."""
    rows = []
    for first, last in BLOCKS:
        for code in range(first, last + 1):
            fonts = tuple(name for name in FONTS if code in draw.characters(name))
            if (
                fonts
                and unicodedata.name(chr(code), "")
                and unicodedata.category(chr(code)) not in ("Mn", "Me", "Cf", "Zs")
            ):
                rows.append((chr(code), fonts))
    return tuple(rows)


def name_of(character: str) -> str:
    """The lower-case Unicode name as a caption: 'greek small letter alpha'."""
    return unicodedata.name(character).lower().replace("-", " ")


def plural(noun: str, n: int) -> str:
    if n == 1:
        return noun
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def picture(size: int, rng: random.Random) -> tuple[np.ndarray, str]:
    """One picture, uint8 (size, size, 3), and its caption."""
    kind = rng.choices(KINDS, weights=WEIGHTS)[0]
    image, caption = kind(size, rng)
    if rng.random() < 0.25:
        image = draw.wobble(image, rng, rng.uniform(0, 0.05))
    return draw.finish(image, rng, noise=14.0), caption


def character(size: int, rng: random.Random):
    text, fonts = rng.choice(alphabet() if rng.random() < 0.75 else COMMON)
    image, back = draw.ground(size, rng)
    draw.glyph(
        image, text, rng.choice(fonts), draw.against(back, rng), rng, scale=(0.5, 0.95), turn=15, shear=0.25, stroke=0.4
    )
    return image, name_of(text)


def word(size: int, rng: random.Random):
    """A short number or two letters, spelled."""
    text = (
        str(rng.randrange(10, 100)) if rng.random() < 0.6 else "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=2))
    )
    image, back = draw.ground(size, rng)
    draw.glyph(image, text, rng.choice(FONTS), draw.against(back, rng), rng, scale=(0.75, 0.98), turn=8, shift=0.03)
    return image, f"the {'number' if text.isdigit() else 'letters'} {' '.join(text.lower())}"


def shapes(size: int, rng: random.Random):
    """'three red pentagons', 'a large blue star at the top left'."""
    noun, colour = rng.choice(draw.SHAPES), rng.choice(list(draw.COLORS))
    color = draw.shade(draw.COLORS[colour], rng)
    image, _ = draw.ground(size, rng, draw.against(color, rng, 0.25))
    fill, turn = rng.random() < 0.8, rng.uniform(-0.4, 0.4)
    if rng.random() < 0.6:
        n = rng.randint(1, 8)
        r = size * rng.uniform(0.26, 0.36) / max(1, n) ** 0.5
        for x, y in draw.scatter(n, size, r, rng):
            draw.shape(image, noun, x, y, r, color, angle=turn + rng.uniform(-0.2, 0.2), fill=fill)
        return image, f"{NUMBERS[n]} {colour} {plural(noun, n)}"
    (i, j), place = rng.choice(list(PLACES.items()))
    big = rng.random() < 0.5
    r = size * (rng.uniform(0.2, 0.26) if big else rng.uniform(0.09, 0.13))
    x, y = (size * (0.22 + 0.28 * c) + rng.uniform(-0.05, 0.05) * size for c in (i, j))
    draw.shape(image, noun, x, y, r, color, angle=turn, fill=fill)
    return image, f"a {'large' if big else 'small'} {colour} {noun} at the {place}"


def pair(size: int, rng: random.Random):
    """'a red circle above a blue square'."""
    nouns = [(rng.choice(list(draw.COLORS)), rng.choice(("circle", "square", "triangle", "star"))) for _ in range(2)]
    image, _ = draw.ground(size, rng, draw.against(draw.COLORS[nouns[0][0]], rng, 0.25))
    relation, (dx, dy) = rng.choice((("above", (0, 1)), ("below", (0, -1)), ("left of", (1, 0)), ("right of", (-1, 0))))
    r = 0.19 * size
    for sign, (colour, noun) in zip((-1, 1), nouns):
        x, y = (size * (0.5 + sign * 0.24 * d + rng.uniform(-0.04, 0.04)) for d in (dx, dy))
        draw.shape(image, noun, x, y, r, draw.shade(draw.COLORS[colour], rng), angle=rng.uniform(-0.2, 0.2))
    return image, f"{nouns[0][1]} {relation} {nouns[1][1]}"


def textured(size: int, rng: random.Random):
    name = rng.choice(draw.TEXTURES)
    a = draw.any_color(rng)
    image = draw.blank(size, a)
    draw.texture(image, rng, name, a, draw.against(a, rng, 0.2))
    return image, name


def arrows(size: int, rng: random.Random):
    image, back = draw.ground(size, rng)
    i = rng.randrange(8)
    angle = i * math.pi / 4 + rng.uniform(-0.2, 0.2)
    draw.arrow(
        image,
        size / 2 + rng.uniform(-3, 3),
        size / 2 + rng.uniform(-3, 3),
        size * rng.uniform(0.25, 0.42),
        angle,
        draw.against(back, rng),
        rng.uniform(1, 3),
    )
    return image, f"an arrow pointing {draw.DIRECTIONS[i]}"


def clock(size: int, rng: random.Random):
    """The hour hand of a clock."""
    image, back = draw.ground(size, rng)
    hour = rng.randint(1, 12)
    color = draw.against(back, rng)
    draw.shape(image, "circle", size / 2, size / 2, size * 0.43, color, fill=False)
    angle = hour * math.pi / 6 + rng.uniform(-0.1, 0.1)
    draw.arrow(
        image,
        size / 2 + 0.16 * size * math.sin(angle),
        size / 2 - 0.16 * size * math.cos(angle),
        size * 0.17,
        angle,
        color,
        1.2,
    )
    return image, f"a clock showing {NUMBERS[hour]}"


COMMON = tuple((c, FONTS) for c in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
KINDS = (character, word, shapes, pair, textured, arrows, clock)
WEIGHTS = (0.52, 0.06, 0.22, 0.06, 0.07, 0.04, 0.03)


def corpus(n: int, size: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """n pictures, uint8 (n, 3, size, size), and their captions; the same seed gives the same corpus."""
    rng = random.Random(seed)
    images = np.empty((n, 3, size, size), dtype=np.uint8)
    captions = []
    for i in range(n):
        image, caption = picture(size, rng)
        images[i] = image.transpose(2, 0, 1)
        captions.append(caption)
    return images, captions
