"""The `trm` command: train a Tiny Recursive Model, test it, and let it solve your maze."""

import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads leave the processor to others; read when torch is imported

import tyro
from tyro.conf import Positional
from tyro.extras import SubcommandApp

app = SubcommandApp()


@app.command
def train(recipe: Positional[str], minutes: float | None = None, seed: int = 0, out: Path | None = None, fresh: bool = False):
    """Train a network and watch how many mazes it solves. Ctrl-C stops it, the same command goes on.

    Example: trm train maze-9 --minutes 3

    Args:
        recipe: maze-9 (perfect 9x9 mazes, minutes on a laptop) or maze-small (the weights that come with the course).
        minutes: Training time without the tests in between; by default the recipe's own.
        seed: Another seed starts from other weights and sees other mazes.
        out: Folder for weights, log and checkpoint; by default runs/RECIPE-SEED.
        fresh: Start anew even where a checkpoint waits.
    """
    from trm_course.learning.fit import fit
    from trm_course.learning.recipes import find_recipe

    changes = {"seed": seed} | ({} if minutes is None else {"minutes": minutes})
    folder = out or Path("runs") / f"{recipe}-{seed}"
    fit(dataclasses.replace(find_recipe(recipe), **changes), folder, fresh=fresh)
    print(f"The weights are in {folder}. Test them:  trm eval {folder}")


@app.command(name="eval")
def evaluate(weights: Positional[str] = "maze-small", kind: str = "perfect", size: int = 9, count: int = 1000,
             steps: tuple[int, ...] = (1, 2, 4, 8, 16), threshold: float = 0.5):
    """Test a network on mazes that no training run has seen: whole solutions that are right, with 95 % intervals.

    Example: trm eval maze-small --kind loops --size 15

    Args:
        weights: Name of shipped weights, a folder, or a Hugging Face hub id.
        kind: perfect (one path), loops (several) or scattered (walls anywhere).
        size: Cells on a side, 3 to 60.
        count: How many of the 1,000 test mazes.
        steps: Supervision steps after which to look; the last is also the most that halting allows.
        threshold: A maze halts once the network is surer than this of its answer.
    """
    from trm_course.learning.score import held_out, score, score_halting
    from trm_course.puzzles.dataset import Batch, MazeTask

    network = load(weights)
    test = Batch(*(column[:count].to(network.y_start.device) for column in held_out(MazeTask(kind, size)).test))
    print(f"{len(test.inputs)} unseen {kind} {size}x{size} mazes, solved exactly:")
    for step, share in score(network, test, steps).items():
        print(f"  after {step:3d} steps  {share}")
    share, mean_steps = score_halting(network, test, max(steps), threshold)
    print(f"  halting at {threshold:g}  {share}, {mean_steps:.2f} steps on average")


@app.command
def solve(file: Positional[str], weights: str = "maze-small", max_steps: int = 64, threshold: float = 0.5):
    """Solve a maze: # wall, . or space empty, S start, G goal, one row a line. The solution marks the way with o.

    Example: trm solve maze.txt. The exit code is 0 for a shortest path, 1 for a wrong answer, 2 for a maze that cannot be read.

    Args:
        file: A text file with a maze, or - to read one from the input.
        weights: Name of shipped weights, a folder, or a Hugging Face hub id.
        max_steps: Supervision steps at most.
        threshold: Stop once the network is surer than this of its answer.
    """
    import torch

    from trm_course.puzzles.maze import shortest_path
    from trm_course.puzzles.tokens import MAZE, read_maze, to_square

    maze = read_maze(sys.stdin.read() if file == "-" else read_file(file), "input" if file == "-" else file)
    network, square = load(weights), to_square(maze)
    tokens = torch.from_numpy(square.astype("int64")).reshape(1, -1).to(network.y_start.device)
    answers, steps, confidence = network.predict(tokens, max_steps, threshold)
    answer = answers.reshape(square.shape)[: maze.shape[0], : maze.shape[1]].cpu().numpy()
    right = (answer == shortest_path(maze[None])[0]).all()
    print(MAZE.decode(answer))
    print(f"{'The shortest path' if right else 'Not the shortest path'}, after {steps.item()} steps, confidence {confidence.item():.0%}", file=sys.stderr)
    sys.exit(0 if right else 1)


def read_file(file: str) -> str:
    "The text of a file; raises ValueError where there is none."
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as text ({error.__class__.__name__}); give a text file, or - for the input") from error


def load(weights: str):
    "A network by the name of shipped weights, by folder, or from the hub, on the fastest device."
    from trm_course.recursion.trm import TRM, best_device, shipped

    return TRM.from_pretrained(weights if "/" in weights or Path(weights).is_dir() else shipped(weights)).to(best_device())


def main(arguments: list[str] | None = None):
    "Runs the command line; bad input ends it with one sentence and exit code 2."
    try:
        app.cli(prog="trm", description="The Tiny Recursive Model of the course: train one, test it, let it solve your maze.", args=arguments)
    except ValueError as error:
        print(f"trm: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
