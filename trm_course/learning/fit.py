"""Training: one optimizer update after every supervision step, watched, logged, and resumed where it stopped."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from trm_course.learning.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from trm_course.learning.ema import EMA
from trm_course.learning.losses import all_right, trm_loss
from trm_course.learning.optim import AdamATan2, learning_rate
from trm_course.learning.recipes import Recipe
from trm_course.learning.score import held_out, score
from trm_course.puzzles.dataset import Batch, MazeStream
from trm_course.recursion.supervise import Carry
from trm_course.recursion.trm import TRM, State

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"


class Trainer:
    "A training run that goes update by update, and can be saved and loaded to go on with the same numbers."

    def __init__(self, recipe: Recipe):
        from accelerate import Accelerator  # takes a second to import

        torch.manual_seed(recipe.seed)
        self.recipe, self.accelerator = recipe, Accelerator()
        self.updates, self.seconds = 0, 0.0
        self.network = TRM(recipe.model).to(self.accelerator.device)
        optimizer = AdamATan2(self.network.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.ema = EMA(self.network.parameters(), recipe.ema)
        self.held_out = [held_out(task) for task in recipe.tasks]
        self.carries = [
            Carry(MazeStream(task, recipe.seed, held.both), recipe.batch, recipe.N_sup, recipe.exploration, seed=recipe.seed)
            for task, held in zip(recipe.tasks, self.held_out)
        ]

    @property
    def progress(self) -> float:
        "How much of the training is done, 0 to 1."
        recipe = self.recipe
        return min(1.0, self.updates / recipe.updates if recipe.updates else self.seconds / (60 * recipe.minutes))

    def update(self) -> dict[str, float]:
        "One supervision step in every slot of the next conveyor, and one optimizer step."
        began, recipe = time.perf_counter(), self.recipe
        carry = self.carries[self.updates % len(self.carries)]
        rate = learning_rate(recipe.lr, self.updates, self.progress, recipe.warmup, recipe.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        logits, q, labels = carry.step(self.model, self.network.start, self.accelerator.device)
        loss = trm_loss(logits, q, labels, recipe.loss)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimizer.step()
        self.ema.update()
        self.updates += 1
        right = all_right(logits, labels).float().mean()
        measured = dict(loss=loss.item(), exact=right.item(), norm=norm.item(), rate=rate)
        self.seconds += time.perf_counter() - began
        return measured

    def validate(self, count: int = 64) -> dict[str, float]:
        "Exact accuracy of the averaged weights after N_sup steps on validation mazes, task by task."
        last, device = self.recipe.N_sup, self.accelerator.device
        with self.ema.applied():
            return {
                f"{task.kind} {task.size}x{task.size}": score(
                    self.network, Batch(*(column[:count].to(device) for column in held.validation)), (last,))[last].value
                for task, held in zip(self.recipe.tasks, self.held_out)
            }

    def save(self, path: Path):
        "Everything needed to go on: weights, average, optimizer, conveyors with their random numbers, and how far it is."
        save_checkpoint(path, dict(
            recipe=asdict(self.recipe), updates=self.updates, seconds=self.seconds, network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(), ema=self.ema.state_dict(), carries=[carry.state_dict() for carry in self.carries]))

    def load(self, path: Path):
        "Goes on from a saved point. Raises CheckpointError for a file that is missing, damaged or of another recipe."
        saved = load_checkpoint(path)
        mine = json.loads(json.dumps(asdict(self.recipe)))
        changed = [key for key in mine if saved["recipe"].get(key) != mine[key] and key not in ("minutes", "updates")]
        if changed:
            raise CheckpointError(f"checkpoint: {path} belongs to a recipe with another {changed[0]}; choose another folder, or start anew")
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ema.load_state_dict(saved["ema"])
        for carry, kept in zip(self.carries, saved["carries"]):
            carry.load_state_dict(kept, State)
        self.updates, self.seconds = saved["updates"], saved["seconds"]


def fit(
    recipe: Recipe,
    folder: str | Path | None = None,  # where the log, checkpoints and in the end the weights go; None keeps nothing
    watch: Callable[[Trainer, dict], object] | None = None,  # called after every validation with what it measured
    every: float | None = None,  # seconds of training between validations; by default a fortieth of the whole, at least 10
    fresh: bool = False,  # start anew even where a checkpoint waits
) -> TRM:
    """Trains until the recipe's time or updates are used up and returns the averaged weights. With a folder it saves at every validation,
    goes on from there when called again, and after Ctrl-C."""
    trainer, folder = Trainer(recipe), folder and Path(folder)
    every = every or max(10.0, 60 * recipe.minutes / 40)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            (folder / LOG).unlink(missing_ok=True)
        elif (folder / CHECKPOINT).exists():
            trainer.load(folder / CHECKPOINT)
    with tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed} {postfix}", disable=not trainer.accelerator.is_main_process) as bar:
        due, tested = trainer.seconds + every, ""
        while trainer.progress < 1:
            measured = trainer.update()
            if trainer.seconds >= due or trainer.progress == 1:
                due = trainer.seconds + every
                measured |= dict(update=trainer.updates, seconds=round(trainer.seconds, 1), validation=trainer.validate())
                tested = "".join(f", {name} {100 * value:.0f} % solved" for name, value in measured["validation"].items())
                _record(trainer, measured, folder, watch)
            bar.n = round(100 * trainer.progress)
            bar.set_postfix_str(f"update {trainer.updates}, loss {measured['loss']:.3f}{tested}")
    return _finish(trainer, folder)


def _record(trainer: Trainer, measured: dict, folder: Path | None, watch: Callable | None):
    "Saves, writes one line to the log, and shows the learner."
    if folder and trainer.accelerator.is_main_process:
        trainer.save(folder / CHECKPOINT)
        with open(folder / LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps(measured) + "\n")
    if watch:
        watch(trainer, measured)


def _finish(trainer: Trainer, folder: Path | None) -> TRM:
    "The network with its averaged weights, kept in the folder."
    with torch.no_grad():
        for parameter, average in zip(trainer.ema.parameters, trainer.ema.average):
            parameter.copy_(average)
    if folder and trainer.accelerator.is_main_process:
        trainer.network.save_pretrained(folder)
    return trainer.network.eval()
