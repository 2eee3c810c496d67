"""The Tiny Recursive Model, whole: it reads a question, thinks, answers, and knows when to stop."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trm_course.nets.embed import LearnedPositions, PuzzleTable, TokenEmbedding, truncated_normal
from trm_course.nets.layers import Linear
from trm_course.nets.tiny import TinyNet, TRMConfig
from trm_course.puzzles.dataset import Batch
from trm_course.recursion.deep import deep_recursion
from trm_course.recursion.halt import HaltingHead, to_logit


WEIGHTS = "model.safetensors"


class State(NamedTuple):
    "What a TRM carries from one supervision step to the next."

    y: torch.Tensor  # (B, L, D) the current answer
    z: torch.Tensor  # (B, L, D) the latent thought


class Unrolled(NamedTuple):
    "Every supervision step of some puzzles; the first axis counts the steps."

    logits: torch.Tensor  # (steps, B, L, V)
    q: torch.Tensor  # (steps, B)
    y: torch.Tensor  # (steps, B, L, D)
    z: torch.Tensor  # (steps, B, L, D)


class TRM(nn.Module, PyTorchModelHubMixin):
    """The Tiny Recursive Model (paper, Figure 3). One tiny net serves both updates; y and z start as fixed random vectors,
    the same in every cell, that are neither trained nor zero."""

    def __init__(self, config: TRMConfig):
        super().__init__()
        self.config, width = config, config.width
        self.embed = TokenEmbedding(config.vocabulary, width)
        self.positions = LearnedPositions(config.prefix + config.length, width) if config.positions == "learned" else nn.Identity()
        self.table = PuzzleTable(config.puzzles, width, config.prefix) if config.puzzles else None
        self.net = TinyNet(config)
        self.output_head = Linear(width, config.vocabulary)
        self.halting_head = HaltingHead(width)
        self.register_buffer("y_start", truncated_normal(width, std=1.0))
        self.register_buffer("z_start", truncated_normal(width, std=1.0))

    def start(self, count: int, length: int) -> State:
        "The state before any thinking, for `count` puzzles of `length` cells."
        shape = (count, self.config.prefix + length, -1)
        return State(self.y_start.expand(shape), self.z_start.expand(shape))

    def read(self, inputs: torch.Tensor, puzzle_ids: torch.Tensor | None = None) -> torch.Tensor:
        "The question as the net sees it: (B, L) -> x (B, prefix + L, D)"
        x = self.embed(inputs)
        if self.table is not None:
            ids = inputs.new_zeros(len(inputs)) if puzzle_ids is None else puzzle_ids
            x = torch.cat([self.table(ids) * self.config.width**0.5, x], 1)
        return self.positions(x)

    def think(self, x: torch.Tensor, state: State) -> tuple[State, torch.Tensor, torch.Tensor]:
        "One supervision step from an embedded question: the new state, detached, logits (B, L, V) and q (B,)."
        y, z = deep_recursion(self.net, x, state.y, state.z, self.config.n, self.config.T)
        logits = self.output_head(y[:, self.config.prefix :])
        q = self.halting_head(y[:, :1] if self.config.prefix else y)
        return State(y.detach(), z.detach()), logits, q

    def step(self, batch: Batch, state: State) -> tuple[State, torch.Tensor, torch.Tensor]:
        "One supervision step: the new state, detached, logits (B, L, V) and q (B,)."
        return self.think(self.read(batch.inputs, batch.puzzle_ids), state)

    forward = step

    @torch.no_grad()
    def unroll(self, inputs: torch.Tensor, steps: int = 16, puzzle_ids: torch.Tensor | None = None) -> Unrolled:
        "Thinks for a fixed number of supervision steps and keeps everything on the way. Raises ValueError as `predict` does."
        self._check(inputs, steps)
        x, state, kept = self.read(inputs, puzzle_ids), self.start(*inputs.shape), []
        for _ in range(steps):
            state, logits, q = self.think(x, state)
            kept.append((logits, q, *state))
        return Unrolled(*(torch.stack(column) for column in zip(*kept)))

    @torch.no_grad()
    def predict(
        self,
        inputs: torch.Tensor,  # (B, L) int64 tokens
        max_steps: int = 16,  # supervision steps at most
        threshold: float = 0.5,  # a puzzle stops once its confidence exceeds this
        puzzle_ids: torch.Tensor | None = None,  # (B,) rows of the puzzle table
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # answers (B, L), steps (B,), confidence (B,)
        """Answers each puzzle as soon as the network is sure of it; finished puzzles leave the batch and cost nothing more.
        Raises ValueError for tokens, shapes, types or devices that this network cannot take."""
        self._check(inputs, max_steps)
        enough = to_logit(threshold)
        answers, steps = torch.empty_like(inputs), inputs.new_full((len(inputs),), max_steps)
        confidence = torch.empty(len(inputs), device=inputs.device)
        open_ones = torch.arange(len(inputs), device=inputs.device)
        x, state = self.read(inputs, puzzle_ids), self.start(*inputs.shape)
        for step in range(1, max_steps + 1):
            state, logits, q = self.think(x, state)
            answers[open_ones], confidence[open_ones] = logits.argmax(-1), q.float().sigmoid()
            unsure = q <= enough
            steps[open_ones[~unsure]] = step
            open_ones, x, state = open_ones[unsure], x[unsure], State(state.y[unsure], state.z[unsure])
            if not len(open_ones):
                break
        return answers, steps, confidence

    def _check(self, inputs: torch.Tensor, steps: int):
        config, device = self.config, self.y_start.device
        if steps < 1:
            raise ValueError(f"steps: found {steps}, expected at least 1 supervision step")
        if inputs.dtype != torch.int64 or inputs.dim() != 2:
            raise ValueError(f"inputs: found {inputs.dtype} of shape {tuple(inputs.shape)}, expected int64 tokens of shape (B, L)")
        if inputs.device.type != device.type:
            raise ValueError(f"inputs: found on {inputs.device}, but the network is on {device}; move one with .to()")
        length = inputs.shape[1]
        if config.length not in (None, length):
            raise ValueError(f"inputs: found {length} cells, but this network (mixer={config.mixer!r}) takes {config.length}")
        if config.mixer == "conv" and math.isqrt(length) ** 2 != length:
            raise ValueError(f"inputs: found {length} cells, expected a square grid such as {math.isqrt(length) ** 2}; add walls (to_square)")
        if inputs.numel() and not 0 <= inputs.min() <= inputs.max() < config.vocabulary:
            wrong = ((inputs < 0) | (inputs >= config.vocabulary)).nonzero()[0].tolist()
            raise ValueError(f"inputs: found token {inputs[*wrong]} in row {wrong[0]}, cell {wrong[1]}, expected 0 to {config.vocabulary - 1}")

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, **hub_options) -> "TRM":
        """The network that `save_pretrained` wrote into a folder or `push_to_hub` to the Hugging Face hub, in evaluation mode.
        Raises ValueError for a file that is missing, truncated or belongs to another network."""
        folder = Path(folder_or_hub_id)
        if not folder.is_dir():
            try:
                folder = Path(snapshot_download(str(folder_or_hub_id), allow_patterns=["config.json", WEIGHTS], **hub_options))
            except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
                raise ValueError(f"weights: {str(folder)!r} is neither a folder here nor a network on the hub ({type(error).__name__})") from error
        try:
            network = cls(TRMConfig(**json.loads((folder / "config.json").read_text("utf-8"))))
            network.load_state_dict(load_file(folder / WEIGHTS))
        except FileNotFoundError as error:
            raise ValueError(f"weights: {error.filename} is missing; a folder of weights holds config.json and {WEIGHTS}") from error
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"weights: {folder / 'config.json'} does not describe a TRM ({error})") from error
        except SafetensorError as error:
            raise ValueError(f"weights: {folder / WEIGHTS} is truncated or no safetensors file ({error}); copy it again") from error
        except RuntimeError as error:
            raise ValueError(f"weights: {folder / WEIGHTS} does not fit its config.json ({str(error).splitlines()[1].strip()})") from error
        return network.eval()

    def _save_pretrained(self, save_directory: Path):
        write_whole(save_directory / WEIGHTS, lambda path: save_file(self.state_dict(), path))
        write_whole(save_directory / "config.json", lambda path: path.write_text(json.dumps(asdict(self.config), indent=2), "utf-8"))


def write_whole(
    path: Path,
    write: Callable[[Path], object],  # is given the path of a temporary file beside it
):
    "Writes a file whole or not at all: a full disk or Ctrl-C while writing leaves the previous file as it was."
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def shipped(name: str) -> Path:
    "The folder of weights that come with the course; raises ValueError for a name that does not exist."
    here = Path(__file__).parents[1] / "data" / "weights"
    folder = here if here.exists() else Path(__file__).parents[2] / "data" / "weights"
    if not (folder / name).is_dir():
        known = ", ".join(sorted(path.name for path in folder.glob("*/"))) or "none"
        raise ValueError(f"weights: found no {name!r} in {folder}, expected one of: {known}")
    return folder / name


def best_device() -> torch.device:
    "The fastest device there is: cuda, then mps, then cpu."
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
