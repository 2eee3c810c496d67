"""Steps of PyPI's `nano-trm`, for `trm bench --peers data/peers`. Made once, in the top folder of the project:

    python -m venv data/peers/nano-trm/env
    data/peers/nano-trm/env/bin/pip install torch einops hydra-core lightning rich scikit-learn
    data/peers/nano-trm/env/bin/pip install --no-deps --ignore-requires-python nano-trm==0.1.0

Give it the torch that you have yourself. The package asks for Python 3.12.1 and for much that its network does not need, and runs without.
It reads one line of JSON, then lines `lap` and `peak`, and answers each with a line of JSON.
The network is set to do as much arithmetic as ours; optimizer and average are those that the package's own trainer takes where it finds no `adam_atan2`.
Its warm-up of the learning rate, its logging, and its look at the gradients after every fiftieth step are left out.
"""

import json
import sys
import time
from io import StringIO
from pathlib import Path

import torch

answers, sys.stdout = sys.stdout, StringIO()  # the package prints too
from src.nn.callbacks.ema import EMACallback
from src.nn.models.trm import TRMModule
from src.nn.modules.trm_block import CastedLinear

sys.path.append(str(Path(__file__).parents[3] / "trm_course" / "checking"))
from memory import Meter  # needs torch alone


def narrow(gated, inner):
    """Gives a gated layer our width inside; the package's own is always a multiple of 256."""
    width = len(gated.down_proj.weight)
    gated.gate_up_proj, gated.down_proj = CastedLinear(width, 2 * inner, bias=False), CastedLinear(inner, width, bias=False)


def network(asked):
    """The package's network with as many multiplications as ours, without its table of puzzles, in the precision it takes on a processor."""
    mlp = asked["mixer"] == "mlp"
    model = TRMModule(hidden_size=asked["width"], num_layers=asked["layers"], num_heads=asked["heads"], H_cycles=asked["T"], L_cycles=asked["n"],
                      ffn_expansion=asked["expansion"], weight_decay=1.0, puzzle_emb_dim=0, puzzle_emb_len=0, pos_emb_type=None if mlp else "1d",
                      use_mlp_t=mlp, vocab_size=asked["vocabulary"], seq_len=asked["cells"], forward_dtype=torch.float32)
    for block in model.lenet.layers:
        narrow(block.mlp, asked["inner"])
        if mlp:
            narrow(block.mlp_t, asked["inner_tokens"])
    return model


def timed(function, *given):
    """What a function gives, and its seconds of processor time."""
    began = time.process_time()
    return function(*given), time.process_time() - began


class Learner:
    """A network in training on the same puzzles again and again."""

    def __init__(self, asked):
        torch.manual_seed(0)
        self.model = network(asked)
        [self.optimizer] = self.model.configure_optimizers()
        self.ema = EMACallback()
        self.ema.on_fit_start(None, self.model)
        if asked["compiled"]:
            self.model.inner_forward = torch.compile(self.model.inner_forward)  # all calls of the net as one program, as the trainer does on a graphics card
        self.low = asked["precision"] == "bfloat16"
        inputs, labels = torch.randint(0, asked["vocabulary"], (2, asked["batch"], asked["cells"]))
        self.batch = dict(input=inputs, output=labels, puzzle_identifiers=torch.zeros(asked["batch"], dtype=torch.int64))
        self.carry = self.model.initial_carry(self.batch)

    def loss(self):
        """One supervision step."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            self.carry, loss, _, _ = self.model.compute_loss_and_metrics(self.carry, self.batch)
        return loss / len(self.batch["input"])

    def update(self):
        """What the package's trainer does after it."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.on_train_batch_end(None, self.model, None, None, 0)

    @torch.no_grad()
    def predict(self):
        """One supervision step without learning."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            _, outputs = self.model(self.model.initial_carry(self.batch), self.batch)
        return outputs["logits"].argmax(-1)

    def lap(self):
        """A step, timed."""
        self.optimizer.zero_grad()
        loss, forward = timed(self.loss)
        _, backward = timed(loss.backward)
        _, optimizer = timed(self.update)
        _, predict = timed(self.predict)
        return dict(forward=forward, backward=backward, optimizer=optimizer, predict=predict)

    def peak(self):
        """The most bytes alive during a step."""
        self.optimizer.zero_grad()
        with Meter() as meter:
            self.loss().backward()
        return dict(peak=meter.peak)


def answer(given):
    """One line of JSON."""
    print(json.dumps(given), file=answers, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = json.loads(sys.stdin.readline())
    if asked["mixer"] == "conv":
        sys.exit(answer(dict(cannot="its convolution is no mixer: it lies inside the gated layer")))
    answer({})
    learner = Learner(asked)
    for line in sys.stdin:
        answer(getattr(learner, line.strip())())
