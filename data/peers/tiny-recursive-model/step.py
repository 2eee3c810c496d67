"""Steps of PyPI's `tiny-recursive-model`, for `trm bench --peers data/peers`. Made once, in the top folder of the project:

    python -m venv data/peers/tiny-recursive-model/env
    data/peers/tiny-recursive-model/env/bin/pip install numpy torch tiny-recursive-model==0.0.15

Give it the torch that you have yourself. It reads one line of JSON, then lines `lap` and `peak`, and answers each with a line of JSON.
The network is set to do as much arithmetic as ours; optimizer and average are those that the package's own trainer would take.
"""

import json
import sys
import time
from pathlib import Path

import torch
from adam_atan2_pytorch import MuonAdamAtan2
from ema_pytorch import EMA
from tiny_recursive_model import TinyRecursiveModel
from tiny_recursive_model.mlp_mixer_1d import MLPMixer1D
from x_transformers import Encoder

sys.path.append(str(Path(__file__).parents[3] / "trm_course" / "checking"))
from memory import Meter  # needs torch alone


def network(asked):
    """The package's network with as many multiplications as ours: a gated layer has three matrices, its own layers have two."""
    width, layers = asked["width"], asked["layers"]
    if asked["mixer"] == "mlp":
        return MLPMixer1D(dim=width, depth=layers, seq_len=asked["cells"], expansion_factor=1.5 * asked["inner_tokens"] / width,
                          expansion_factor_token=1.5 * asked["inner"] / width)
    return Encoder(dim=width, depth=layers, heads=asked["heads"], attn_dim_head=width // asked["heads"], attn_flash=True, rotary_pos_emb=True,
                   ff_glu=True, ff_swish=True, ff_no_bias=True, ff_mult=asked["inner"] / width, use_rmsnorm=True)


def timed(function, *given):
    """What a function gives, and its seconds of processor time."""
    began = time.process_time()
    return function(*given), time.process_time() - began


class Learner:
    """A network in training on the same puzzles again and again."""

    def __init__(self, asked):
        torch.manual_seed(0)
        net = network(asked)
        self.model = TinyRecursiveModel(dim=asked["width"], num_tokens=asked["vocabulary"], network=net, num_refinement_blocks=asked["T"],
                                        num_latent_refinements=asked["n"])
        if isinstance(net, Encoder):
            self.optimizer = MuonAdamAtan2(net.muon_parameters(), self.model.parameters(), lr=1e-4, muon_lr=1e-3, weight_decay=1.0)
        else:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=1.0)
        self.ema = EMA(self.model, beta=0.999, update_model_with_ema_every=10_000, forward_method_names=("predict",))
        if asked["compiled"]:
            self.model.deep_refinement = torch.compile(self.model.deep_refinement)  # all calls of the net as one program
        self.low = asked["precision"] == "bfloat16"
        self.inputs, self.labels = torch.randint(0, asked["vocabulary"], (2, asked["batch"], asked["cells"]))
        self.state = self.model.get_initial()

    def loss(self):
        """One supervision step."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            loss, _, *state, _, _ = self.model(self.inputs, *self.state, labels=self.labels)
        self.state = state
        return loss

    def update(self):
        """What the package's trainer does after it."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update()

    def predict(self):
        """One supervision step without learning, that nobody leaves early."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            return self.model.predict(self.inputs, halt_prob_thres=1.0, max_deep_refinement_steps=1)

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = json.loads(sys.stdin.readline())
    if asked["mixer"] == "conv":
        sys.exit(print(json.dumps(dict(cannot="it has no convolution"))))
    print("{}", flush=True)
    learner = Learner(asked)
    for line in sys.stdin:
        print(json.dumps(getattr(learner, line.strip())()), flush=True)
