"""Recipes: everything that decides a training run, under a name."""

from dataclasses import dataclass

from trm_course.nets.tiny import TRMConfig
from trm_course.puzzles.dataset import MazeTask


@dataclass(frozen=True)
class Recipe:
    "A training run. `minutes` or `updates` say how long; with `minutes` the learning rate follows the clock."

    name: str
    about: str
    model: TRMConfig
    tasks: tuple[MazeTask, ...]  # one conveyor each, taken in turns
    minutes: float = 3.0  # of training on two CPU cores, without the time that watching and testing take
    updates: int | None = None  # optimizer steps, instead of minutes
    batch: int = 32  # slots of a conveyor
    N_sup: int = 8  # supervision steps per puzzle at most
    exploration: float = 0.1  # share of puzzles that must be thought about for longer
    lr: float = 1e-3  # peak learning rate
    weight_decay: float = 0.1
    warmup: int = 50  # updates
    decay: float = 0.3  # last share of the training in which the learning rate falls
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999
    loss: str = "softmax"  # or "stablemax"
    seed: int = 0


LAPTOP = TRMConfig(vocabulary=5, width=64, layers=2, expansion=2.0, multiple=32, mixer="conv", heads=1, n=2, T=2)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "maze-9", "perfect 9x9 mazes in minutes on a laptop; smaller ones beside them give it a start", LAPTOP,
            (MazeTask("perfect", 9), MazeTask("perfect", 7), MazeTask("perfect", 5))),
        Recipe(
            "maze-small", "the weights that come with the course: perfect mazes and mazes with loops, 7x7 to 15x15", LAPTOP,
            (MazeTask("perfect", 7), MazeTask("loops", 11), MazeTask("perfect", 15), MazeTask("loops", 15)),
            minutes=65.0, N_sup=12, exploration=0.2),
    )
}


def find_recipe(name: str) -> Recipe:
    "A recipe by name; raises ValueError that lists the names there are."
    if name not in RECIPES:
        raise ValueError(f"recipe: found {name!r}, expected one of: {', '.join(RECIPES)}")
    return RECIPES[name]
