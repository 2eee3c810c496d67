"""Reading the answer, and knowing when to stop."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class HaltingHead(nn.Module):
    """How sure the network is that its whole answer is right, as a logit q. It starts at -5 (a confidence of 0.7 %), so that an
    untrained network does not stop at once. The answer is only as sure as the least sure of the cells that the head reads: all
    cells, or the one prefix token of the official code. The second output is HRM's "continue", kept so that official weights fit."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(2, width)), nn.Parameter(torch.full((2,), -5.0))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        "(B, cells read, D) -> (B,)"
        return F.linear(y, self.weight, self.bias)[..., 0].amin(1)


def to_logit(threshold: float) -> float:
    "The logit above which a confidence exceeds the threshold: 0.5 -> 0, 0.9 -> 2.2."
    if not 0 < threshold < 1:
        raise ValueError(f"threshold: found {threshold}, expected a confidence between 0 and 1")
    return math.log(threshold / (1 - threshold))
