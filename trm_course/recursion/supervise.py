"""Up to sixteen tries: deep supervision as a plain loop, and as a conveyor whose slots are refilled one by one."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from trm_course.puzzles.dataset import Batch
from trm_course.recursion.halt import to_logit


def supervise(
    model,  # a TRM
    batch: Batch,
    N_sup: int = 16,  # supervision steps
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # logits (B, L, V) and q (B,) of each step
    """The paper's loop: every puzzle of the batch is thought about N_sup times, from where the last step left it, and the
    caller learns from each step before the next begins (paper, Figure 3)."""
    if N_sup < 1:
        raise ValueError(f"N_sup: found {N_sup}, expected at least 1 supervision step")
    state = model.start(*batch.inputs.shape)
    for _ in range(N_sup):
        state, logits, q = model(batch, state)
        yield logits, q


class Carry:
    """The official code's conveyor (pretrain.py, trm.py): as many slots as the batch has rows, each with its own puzzle, state and
    count of steps. A slot that is sure of its answer, or has had N_sup steps, takes the next puzzle of the stream; the others go on."""

    def __init__(
        self,
        stream,  # has take(count) -> Batch
        slots: int,  # B
        N_sup: int = 16,  # no slot works on one puzzle for longer
        exploration: float = 0.1,  # the share of puzzles that must go on for a random number of steps, however sure
        threshold: float = 0.5,  # a slot halts when its confidence exceeds this
        seed: int = 0,
    ):
        self.stream, self.N_sup, self.exploration, self.enough = stream, N_sup, exploration, to_logit(threshold)
        self.random = torch.Generator().manual_seed(seed)
        self.batch, self.state = None, None
        self.steps, self.least = torch.zeros(slots, dtype=torch.int64), torch.ones(slots, dtype=torch.int64)
        self.halted = torch.ones(slots, dtype=torch.bool)

    def step(self, model, start, device="cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        "Refills halted slots, thinks one supervision step in all of them: logits (B, L, V), q (B,), labels (B, L)."
        self._refill(start, device)
        self.state, logits, q = model(self.batch, self.state)
        self.steps += 1
        sure = (q.detach() > self.enough).cpu()
        self.halted = (sure & (self.steps >= self.least)) | (self.steps >= self.N_sup)
        return logits, q, self.batch.labels

    def _refill(self, start, device):
        free = self.halted.nonzero()[:, 0]
        if not len(free):
            return
        fresh = Batch(*(column.to(device) for column in self.stream.take(len(free))))
        empty = start(*fresh.inputs.shape)
        if self.batch is None:
            self.batch, self.state = fresh, type(empty)(*(part.clone() for part in empty))
        else:
            for column, new in zip((*self.batch, *self.state), (*fresh, *empty)):
                column[free.to(device)] = new
        self.steps[free] = 0
        must_go_on = torch.rand(len(free), generator=self.random) < self.exploration
        longer = torch.randint(2, max(self.N_sup, 2) + 1, (len(free),), generator=self.random)
        self.least[free] = torch.where(must_go_on, longer, 1)

    def state_dict(self) -> dict:
        "Everything needed to go on from here, as tensors and plain numbers."
        return dict(batch=self.batch._asdict(), state=self.state._asdict(), steps=self.steps, least=self.least, halted=self.halted,
                    random=self.random.get_state(), position=self.stream.position)

    def load_state_dict(self, saved: dict, state_type):
        "Goes on from a saved point."
        self.batch, self.state = Batch(**saved["batch"]), state_type(**saved["state"])
        self.steps, self.least, self.halted = saved["steps"], saved["least"], saved["halted"]
        self.random.set_state(saved["random"])
        self.stream.position = saved["position"]
