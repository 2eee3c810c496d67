"""What takes the step: AdamATan2 for the network, sign-SGD for a puzzle table, and how the learning rate goes up and down."""

import math
from collections.abc import Iterable

import torch


class AdamATan2(torch.optim.Optimizer):
    """Adam whose division is replaced by an arctangent: no epsilon, and no step larger than pi / 2 learning rates.
    p <- p (1 - lr wd); m <- lerp(m, g, 1 - b1); v <- lerp(v, g^2, 1 - b2); p <- p - lr / (1 - b1^t) atan2(m, sqrt(v / (1 - b2^t)))
    (the optimizer of the official code; decay acts on every parameter, biases too)."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float = 1e-4,  # learning rate
        betas: tuple[float, float] = (0.9, 0.95),  # how much of each average stays at each step
        weight_decay: float = 0.1,
    ):
        super().__init__(parameters, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: None = None):  # torch's interface; a closure is not used
        "Moves every parameter that has a gradient."
        for group in self.param_groups:
            lr, (b1, b2) = group["lr"], group["betas"]
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moving:
                continue
            for parameter in moving:
                if not self.state[parameter]:
                    self.state[parameter] = dict(t=0, m=torch.zeros_like(parameter), v=torch.zeros_like(parameter))
                self.state[parameter]["t"] += 1
            gradients = [parameter.grad for parameter in moving]
            m, v = ([self.state[parameter][name] for parameter in moving] for name in "mv")
            t = self.state[moving[0]]["t"]
            torch._foreach_mul_(moving, 1 - lr * group["weight_decay"])
            torch._foreach_lerp_(m, gradients, 1 - b1)
            torch._foreach_lerp_(v, torch._foreach_mul(gradients, gradients), 1 - b2)
            size = torch._foreach_div(torch._foreach_sqrt(v), math.sqrt(1 - b2**t))
            torch._foreach_add_(moving, [torch.atan2(*pair) for pair in zip(m, size)], alpha=-lr / (1 - b1**t))


class SignSGD(torch.optim.Optimizer):
    """For puzzle tables, whose rows are used rarely: each row that was used moves by exactly the learning rate in the direction of its
    summed gradient's sign, after decaying; all others stay (official sparse_embedding.py). Needs sparse gradients."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float = 1e-2, weight_decay: float = 0.1):
        super().__init__(parameters, dict(lr=lr, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: None = None):  # torch's interface; a closure is not used
        "Moves the rows that were used."
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    gradient = table.grad.coalesce()  # sums what several puzzles of one id contribute
                    rows = gradient.indices()[0]
                    table[rows] = table[rows] * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * gradient.values().sign()


def learning_rate(
    peak: float,
    update: int,  # how many updates were made
    progress: float,  # how much of the training is done, 0 to 1
    warmup: int = 50,  # updates until the peak is reached
    decay: float = 0.3,  # the last share of the training, in which the rate falls along half a cosine to zero; 0 for never
) -> float:
    "Up in a straight line, flat, and down again at the end, where accuracy jumps."
    up = min(1.0, (update + 1) / warmup)
    left = min(1.0, (1 - progress) / decay) if decay else 1.0
    return peak * up * (1 - math.cos(math.pi * left)) / 2
