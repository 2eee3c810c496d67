"""An average of the weights over the last thousand steps: calmer than the weights themselves."""

from collections.abc import Iterable
from contextlib import contextmanager

import torch


class EMA:
    """The exponential moving average of some parameters, moved after every optimizer step (paper, section 4.7). It starts warm: the first
    updates weigh more, so that the random start is soon forgotten. Puzzle tables are left out, as in the official code."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        decay: float = 0.999,  # how much of the average stays at each update
    ):
        if not 0 <= decay < 1:
            raise ValueError(f"decay: found {decay}, expected 0 to just below 1")
        self.parameters, self.decay, self.updates = list(parameters), decay, 0
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self):
        "Moves the average a little towards the weights; call it after the optimizer's step."
        self.updates += 1
        decay = min(self.decay, self.updates / (9 + self.updates))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @contextmanager
    def applied(self):
        "Within this block the parameters are the averages; afterwards they are the trained ones again."
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self):
        for average, parameter in zip(self.average, self.parameters):
            trained = parameter.clone()
            parameter.copy_(average)
            average.copy_(trained)

    def state_dict(self) -> dict:
        "The averages and how often they moved."
        return dict(updates=self.updates, average=self.average)

    @torch.no_grad()
    def load_state_dict(self, saved: dict):
        "Goes on from a saved average."
        self.updates = saved["updates"]
        for average, kept in zip(self.average, saved["average"]):
            average.copy_(kept)
