"""Generated tasks that show one character: letters of four scripts, symbols, braille.

Training and test pictures use different fonts. Latin, Cyrillic and the symbols occur in the pre-training corpus in
another look; Armenian, Hebrew and braille do not.
"""

import math
import random

from PIL import Image, ImageDraw
from tally.data import draw

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
ARMENIAN = "".join(chr(c) for c in range(0x531, 0x557))
HEBREW = "אבגדהוזחטיכלמנסעפצקרשת"  # without the final forms
SYMBOLS = "♔♕♖♗♘♙♠♣♥♦♈♉♊♋♌♍♎♏♐♑♒♓☀☁☂☃☎☘☠☢☮☯"
BRAILLE = (  # raised dots of the letters a to z; 1 2 3 are the left column, 4 5 6 the right one
    "1", "12", "14", "145", "15", "124", "1245", "125", "24", "245", "13", "123", "134",
    "1345", "135", "1234", "12345", "1235", "234", "2345", "136", "1236", "2456", "1346", "13456", "1356",
)  # fmt: skip

Drawing = tuple[Image.Image, dict[str, float]]

FONTS = {  # train and validation, test
    "latin": (("DejaVuSans", "DejaVuSerif", "STIXGeneral", "DejaVuSansMono-Oblique"), ("DejaVuSans-BoldOblique", "DejaVuSerif-Italic", "STIXGeneralBolIta", "cmtt10")),
    # no serif italics: there several Cyrillic letters have another shape
    "cyrillic": (("DejaVuSans", "DejaVuSerif-Bold", "STIXGeneral", "DejaVuSansMono-Oblique"), ("DejaVuSerif", "DejaVuSansMono-Bold", "STIXGeneralBol")),
    "armenian": (("DejaVuSans", "DejaVuSerif-Bold", "DejaVuSansMono-Oblique"), ("DejaVuSerif", "DejaVuSansMono-Bold", "DejaVuSans-BoldOblique")),
    "sans": (("DejaVuSans", "DejaVuSans-Oblique"), ("DejaVuSans-Bold", "DejaVuSans-BoldOblique")),
}  # fmt: skip


def font(script: str, test: bool, rng: random.Random) -> str:
    return rng.choice(FONTS[script][test])


def letter(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Chalk on a blackboard: white, slanted, bent."""
    image = draw.blank(size, (0, 0, 0))
    grey = rng.randint(170, 255)
    draw.glyph(
        image,
        LATIN[label],
        font("latin", test, rng),
        (grey, grey, grey),
        rng,
        scale=(0.55, 0.9),
        turn=22,
        shear=0.45,
        stroke=0.5,
    )
    return draw.wobble(image, rng, rng.uniform(0.03, 0.09)), {"noise": 6.0, "blur": 0.9}


def cyrillic(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Dark ink on ruled yellowed paper, with spots."""
    paper = draw.shade((226, 208, 168), rng, 20)
    image = draw.blank(size, paper)
    pen = ImageDraw.Draw(image)
    n, step, start = image.width, size * rng.uniform(0.3, 0.5), rng.uniform(0, size)
    for i in range(-6, 7):
        pen.line([(0, start + i * step), (n, start + i * step)], fill=(150, 165, 200), width=max(1, size // 20))
    ink = draw.shade((70, 50, 60), rng, 35)
    draw.glyph(
        image,
        CYRILLIC[label],
        font("cyrillic", test, rng),
        ink,
        rng,
        scale=(0.4, 0.75),
        turn=18,
        shear=0.35,
        shift=0.14,
    )
    for _ in range(rng.randint(0, 5)):
        x, y, r = rng.uniform(0, n), rng.uniform(0, n), n * rng.uniform(0.01, 0.045)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=ink)
    return draw.wobble(image, rng, rng.uniform(0, 0.05)), {"noise": 22.0, "blur": 1.2}


def armenian(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """A coloured letter on a ground of nearly its own colour."""
    back = draw.any_color(rng)
    while not 0.09 < draw.contrast(back, ink := draw.any_color(rng)) < 0.35:
        pass
    image = draw.blank(size, back)
    draw.glyph(image, ARMENIAN[label], font("armenian", test, rng), ink, rng, scale=(0.6, 0.92), turn=12, shear=0.2)
    return image, {"noise": 14.0, "blur": 0.7}


def hebrew(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Gold on blue tiles; seldom upright."""
    image = draw.blank(size, (20, 30, 80))
    draw.texture(
        image, rng, rng.choice(draw.TEXTURES), draw.shade((30, 50, 120), rng, 30), draw.shade((60, 70, 160), rng, 30)
    )
    gold = draw.shade((215, 175, 70), rng, 35)
    draw.glyph(
        image, HEBREW[label], font("sans", test, rng), gold, rng, scale=(0.45, 0.85), turn=35, shear=0.35, shift=0.12
    )
    return draw.wobble(image, rng, rng.uniform(0, 0.08)), {"noise": 26.0, "blur": 0.6}


def symbol(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Small and anywhere on a bright gradient, partly struck out."""
    pale = tuple(rng.randint(150, 255) for _ in range(3))
    image = draw.blank(size, pale)
    draw.texture(image, rng, "gradient", draw.shade(pale, rng, 60), draw.shade(pale, rng, 60))
    ink = tuple(rng.randint(0, 110) for _ in range(3))
    draw.glyph(
        image, SYMBOLS[label], font("sans", test, rng), ink, rng, scale=(0.48, 0.72), turn=30, shear=0.2, shift=0.16
    )
    n = image.width
    for _ in range(rng.randint(0, 2)):
        ends = [(rng.uniform(0, n), rng.uniform(0, n)) for _ in range(2)]
        ImageDraw.Draw(image).line(ends, fill=ink if rng.random() < 0.5 else pale, width=max(1, n // 24))
    return draw.wobble(image, rng, rng.uniform(0, 0.06)), {"noise": 20.0, "blur": 0.8}


def braille(size: int, label: int, test: bool, rng: random.Random) -> Drawing:
    """Bumps pressed into grey card and lit from the upper left; test cards are rough."""
    grey = rng.randint(110, 190)
    card = (grey, grey, min(255, grey + rng.randint(0, 25)))
    image = draw.blank(size, card)
    pen = ImageDraw.Draw(image)
    n = image.width
    step, turn = n * rng.uniform(0.26, 0.3), math.radians(rng.uniform(-8, 8))
    x0, y0 = n / 2 + n * rng.uniform(-0.05, 0.05), n / 2 + n * rng.uniform(-0.05, 0.05)
    depth = rng.randint(60, 100)
    for dot in range(6):
        raised = str(dot + 1) in BRAILLE[label]
        u, v = (dot // 3 - 0.5) * step, (dot % 3 - 1) * step
        x = x0 + u * math.cos(turn) - v * math.sin(turn) + n * rng.uniform(-0.02, 0.02)
        y = y0 + u * math.sin(turn) + v * math.cos(turn) + n * rng.uniform(-0.02, 0.02)
        r = n * (rng.uniform(0.08, 0.11) if raised else rng.uniform(0.015, 0.025))
        for shift, light in ((0.3, -depth), (-0.3, depth), (0, 0)):
            level = tuple(min(255, max(0, c + light)) for c in card)
            pen.ellipse([x - r + shift * r, y - r + shift * r, x + r + shift * r, y + r + shift * r], fill=level)
    return image, {"noise": 14.0 if test else 10.0, "blur": 0.5}
