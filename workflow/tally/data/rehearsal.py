"""Three drawn tasks of few pictures, so that a run with a large model can be rehearsed whole; nothing is to be learned from them."""

from functools import partial

from tally.data import diagrams, draw, scenes
from tally.data.generated import Picture, generate_few
from tally.data.task import Task


def few(name: str, picture: Picture, classes: tuple[str, ...], template: str) -> Task:
    source = partial(generate_few, name, picture, len(classes))
    return Task(
        name,
        "few pictures, to rehearse a run",
        classes,
        (template,),
        source,
        "drawn by tally, as tally itself",
        "a few, generated from a seed",
    )


ROWS = (
    few("few-arrows", scenes.arrow, draw.DIRECTIONS, "an arrow pointing {}"),
    few("few-charts", diagrams.chart, diagrams.CHARTS, "a {} line"),
    few("few-colors", scenes.color, scenes.HUES[:8], "a {} star"),
)
