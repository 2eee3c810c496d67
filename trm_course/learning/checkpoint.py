"""Stopping and going on: one file that holds all of a training run, written whole or not at all."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from trm_course.recursion.trm import write_whole


class CheckpointError(ValueError):
    "A checkpoint that is missing, damaged or of another run."


def save_checkpoint(path: Path, parts: dict):
    "Writes nested dicts and lists of tensors, numbers and strings to one safetensors file; a failure leaves the previous file intact."
    tensors = {}

    def describe(value, name):
        if isinstance(value, torch.Tensor):
            tensors[name] = value.detach().cpu().contiguous()
            return {"tensor": name}
        if isinstance(value, dict):
            return {"dict": [[key, describe(item, f"{name}.{key}")] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return {"list": [describe(item, f"{name}.{i}") for i, item in enumerate(value)]}
        return {"plain": value}

    plan = json.dumps(describe(parts, "run"))
    write_whole(Path(path), lambda unfinished: save_file(tensors, unfinished, {"plan": plan}))


def load_checkpoint(path: Path) -> dict:
    "What `save_checkpoint` wrote. Raises CheckpointError for a file that is missing, truncated or something else."
    try:
        with safe_open(path, "pt") as file:
            plan = json.loads((file.metadata() or {})["plan"])
            return _rebuild(plan, file)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint: {path} does not exist; train first, or give the folder of a run") from error
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"checkpoint: {path} is truncated or was not written by this course ({error}); delete it or copy it again") from error


def _rebuild(plan, file):
    (kind, value), = plan.items()
    if kind == "tensor":
        return file.get_tensor(value)
    if kind == "dict":
        return {key: _rebuild(item, file) for key, item in value}
    if kind == "list":
        return [_rebuild(item, file) for item in value]
    return value
