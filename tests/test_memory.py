"""Gradient checkpointing over latent steps: less memory, the same numbers."""

from dataclasses import replace

import pytest
import torch

from trm_course.checking.memory import measure
from trm_course.nets.tiny import TRMConfig
from trm_course.recursion.trm import TRM

SHAPES = {
    "attention": TRMConfig(vocabulary=11, length=25, width=64, heads=4, puzzles=1, prefix=4),
    "mlp": TRMConfig(vocabulary=11, length=25, width=64, mixer="mlp", positions="none"),
    "convolution": TRMConfig(vocabulary=5, width=64, mixer="conv", heads=1),
}


def lesson(config):
    """A network, and a function that makes one supervision step of it."""
    torch.manual_seed(0)
    model, inputs = TRM(config), torch.randint(0, 5, (2, 25))
    state = model.start(2, 25)

    def learn():
        _, logits, q = model.think(model.read(inputs), state)
        return logits.square().mean() + q.mean()

    return model, learn


def cost(config, **changed):
    """What a step of it costs."""
    return measure(*lesson(replace(config, **changed)))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_24_latent_steps_take_little_more_memory_than_6(config):
    deep, usual = (cost(config, n=n, T=1, recompute=True) for n in (24, 6))
    assert deep.peak <= 1.5 * usual.peak
    assert deep.peak < cost(config, n=6, T=1).peak


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_memory_grows_with_n_and_not_with_T(config):
    one, two, five = (cost(config, n=n, T=1).kept for n in (1, 2, 5))
    assert five - one == 4 * (two - one)  # a straight line
    assert cost(config, n=2, T=4).kept == two


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_the_same_answers_and_gradients(config, precision):
    results = []
    for recompute in (False, True):
        model, learn = lesson(replace(config, n=3, T=2, recompute=recompute))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = learn()
        loss.backward()
        results.append([loss.detach(), *(weight.grad.to_dense() for weight in model.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_evaluation_is_untouched():
    inputs = torch.randint(0, 5, (2, 25))
    model, _ = lesson(SHAPES["convolution"])
    other = TRM(replace(model.config, recompute=True))
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(*pair) for pair in zip(model.predict(inputs), other.predict(inputs)))
