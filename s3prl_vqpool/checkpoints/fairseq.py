"""wav2vec checkpoints from any source, in the form that S3PRL's models take: two configs (task, model) and weights.

fairseq wrote `args` (a namespace) or `cfg` (a dict, or OmegaConf's); S3PRL converts them with fairseq
(s3prl/upstream/wav2vec2/convert.py); `vqpool convert` writes either S3PRL's format or safetensors with JSON.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, shortened
from ..files import parse_json, put_tensors, read_tensors, whole, write_text
from . import torch_files
from .unpickler import MODEL, Malformed, Name, named_in, parts, plain, refused
from .weights import require_finite

#: What S3PRL's converted checkpoints hold.
KEYS = ("task_cfg", "model_cfg", "model_weight")
#: Fields that S3PRL's models pass to `eval`. They must be lists of numbers.
LAYERS = ("conv_feature_layers", "conv_aggregator_layers")
#: Those, and the others that S3PRL evaluates: of multires_hubert, and of its attention.
EVALUATED = (*LAYERS, "override_encoder_layers", "xformers_att_config")
_TEMPERATURES = ("latent_temp", "vq_temp")
#: The prefix under which fairseq's fine-tuned models keep the pre-trained model.
_WITHIN = "w2v_encoder.w2v_model."
_WHOLE_NUMBERS = re.compile(r"(\[[0-9, ]*\])?")
MOST_LAYERS = 64
_LONGEST_LAYERS = 2000


@dataclass(frozen=True)
class Converted:
    """What S3PRL's `load_converted_model` expects of a file: configs, and the model's `state_dict`.

    Values of a config are plain, or a `Name` where the file has an object of that class.
    """

    task_cfg: dict[str, Any]
    model_cfg: dict[str, Any]
    model_weight: dict[str, Tensor]


def load(path: str | Path) -> Converted:
    """A checkpoint as fairseq wrote it, as S3PRL converted it, or as `save` wrote it.

    Only the configs and weights of a file are used. Everything else in it is ignored, whatever its class.

    Raises:
        InputError: it is something else, damaged, its weights are not finite, or what is used of it is of a
            class that checkpoints do not need.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _checked(path, *_load_safetensors(path))
    content = torch_files.read(path)
    _require_plain(path, content)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a checkpoint of fairseq or S3PRL: it holds no dict.")
    try:
        task, model, weights = _configs(path, content)
    except (Malformed, RecursionError) as error:
        raise InputError(f"{path}: its config cannot be read ({error}).") from error
    return _checked(path, *_unwrapped(task, model, weights))


def check(path: str | Path) -> None:
    """InputError for a file that must not be given to S3PRL's loaders of other upstreams: damaged, or naming code.

    S3PRL unpickles it, and evaluates what its config says of layers, wherever each upstream keeps that.
    """
    try:
        for name, value in _evaluated(torch_files.read(path, MODEL)):
            if not _is_harmless(path, name, value):
                seen = shortened(value) if isinstance(value, str) else type(value).__name__
                raise InputError(f"{path}: refused, {name} is {seen!r}, which S3PRL would evaluate.")
    except (Malformed, RecursionError) as error:
        raise InputError(f"{path}: its config cannot be read ({error}).") from error


def _evaluated(content: Any) -> Iterator[tuple[str, Any]]:
    """The fields that S3PRL's models `eval`, at any depth, with their plain values."""
    for part in parts(content):
        for name, entry in part.items() if isinstance(part, dict) else ():
            if isinstance(name, str) and name.endswith(EVALUATED):
                yield name, plain(entry)


def _is_harmless(path: str | Path, name: str, value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, str):
        return False
    if name.endswith(LAYERS):
        return bool(layers(Path(path), name, value))
    return name.endswith("override_encoder_layers") and bool(_WHOLE_NUMBERS.fullmatch(value))


def _configs(path: Path, content: dict[str, Any]) -> tuple[Any, Any, Any]:
    if all(key in content for key in KEYS):
        return plain(content["task_cfg"]), plain(content["model_cfg"]), content["model_weight"]
    if content.get("model") and content.get("cfg") is not None:
        cfg = plain(content["cfg"])
        _require_plain(path, cfg)
        if isinstance(cfg, dict) and {"task", "model"} <= cfg.keys():
            return cfg["task"], cfg["model"], content["model"]
    elif content.get("model") and content.get("args") is not None:
        args = plain(content["args"])
        return args, args, content["model"]
    missing = [repr(key) for key in KEYS if key not in content]
    raise InputError(
        f"{path}: not fairseq's checkpoint of a model (keys model, and cfg or args), and for one that S3PRL "
        f"converted it has no {', '.join(missing)}."
    )


def _unwrapped(task: Any, model: Any, weights: Any) -> tuple[Any, Any, Any]:
    """The pre-trained model where DistributedDataParallel or a fine-tuned model is around it, quantizer included."""
    if not isinstance(weights, dict) or not weights or not all(isinstance(name, str) for name in weights):
        return task, model, weights
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
    inner = {
        name.removeprefix(_WITHIN): weight for name, weight in weights.items() if name.startswith(_WITHIN)
    }
    if "quantizer.vars" not in inner:
        return task, model, weights
    before = model.get("w2v_args") if isinstance(model, dict) else None
    if not isinstance(before, dict):
        return task, model, inner
    nested = isinstance(before.get("task"), dict) and isinstance(
        before.get("model"), dict
    )  # else fairseq's `args`
    return (before["task"], before["model"], inner) if nested else (before, before, inner)


def _checked(path: Path, task: Any, model: Any, weights: Any) -> Converted:
    state_dict(path, weights)
    return Converted(_config(path, task), _config(path, model), weights)


def state_dict(path: Path, weights: Any) -> dict[str, Tensor]:
    """``weights`` of the file ``path``; InputError where they are no dict of tensors, or not finite."""
    _require_plain(path, weights)
    if not (isinstance(weights, dict) and all(isinstance(name, str) for name in weights)):
        raise InputError(f"{path}: its weights are not a dict of tensors.")
    for weight in weights.values():
        _require_plain(path, weight)
    if not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise InputError(f"{path}: its weights are not a dict of tensors.")
    require_finite(weights, str(path))
    return weights


def _require_plain(path: Path, value: Any) -> None:
    name = named_in(value)
    if name is not None:
        raise InputError(f"{path}: {refused(name)}")


def _config(path: Path, config: Any) -> dict[str, Any]:
    """Values by name, without interpolations that fairseq would have resolved; layers made literal.

    An object of a class becomes that class's `Name`: `models.build` refuses it where it is used.
    """
    _require_plain(path, config)
    if not isinstance(config, dict):
        raise InputError(f"{path}: its config is not a dict.")
    kept = {
        str(name): named_in(value) or value
        for name, value in config.items()
        if not (isinstance(value, str) and "${" in value) and (named_in(value) or _is_plain(value))
    }
    for name in (*LAYERS, *_TEMPERATURES):
        _require_plain(path, kept.get(name))
    for name in LAYERS:
        if name in kept:
            kept[name] = repr(layers(path, name, kept[name]))
    for name in _TEMPERATURES:
        if name in kept:
            kept[name] = _temperature(path, name, kept[name])
    return kept


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def layers(path: Path, name: str, text: object) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of each layer that fairseq writes as Python: `[(512, 10, 5)] + [(512, 3, 2)] * 4`.

    Raises:
        InputError: anything but lists of three whole numbers, added and repeated.
    """
    try:
        source = str(text)
        found = None if len(source) > _LONGEST_LAYERS else _evaluate(ast.parse(source, mode="eval").body)
        if isinstance(found, list) and 0 < len(found) <= MOST_LAYERS and all(map(_is_layer, found)):
            return [tuple(layer) for layer in found]
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        pass
    raise InputError(
        f"{path}: refused, {name} is {shortened(text)!r}; expected a list of (channels, kernel, stride)."
    )


def _evaluate(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(left, list) and isinstance(right, list) and len(left) + len(right) <= MOST_LAYERS:
            return left + right
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(left, list) and type(right) is int and 0 <= right * len(left) <= MOST_LAYERS:
            return left * right
    else:
        return ast.literal_eval(node)
    raise ValueError("neither a sum of lists nor a repeated list")


def _is_layer(layer: Any) -> bool:
    return (
        isinstance(layer, (tuple, list))
        and len(layer) == 3
        and all(type(n) is int and 0 < n < 2**20 for n in layer)
    )


def _temperature(path: Path, name: str, value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(ast.literal_eval(value[:200]) if isinstance(value, str) else value)
        if len(numbers) == 3 and all(type(number) in (int, float) for number in numbers):
            return numbers
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise InputError(f"{path}: {name} is {shortened(value)!r}; expected three numbers.")


def _load_safetensors(path: Path) -> tuple[Any, Any, Any]:
    described = path.with_suffix(".json")
    weights, _ = read_tensors(path, "weights as vqpool convert writes it")
    try:
        configs = parse_json(described.read_text("utf-8"), described.name, "")
        return configs["task_cfg"], configs["model_cfg"], weights
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {shortened(error)}"
        raise InputError(
            f"{path}: not a checkpoint that vqpool convert wrote, with {described.name} beside it ({problem})."
        ) from error


def save(checkpoint: Converted, path: str | Path) -> list[Path]:
    """Write S3PRL's converted format, or where ``path`` ends in .safetensors those and a .json beside them.

    Each file appears whole or not at all. Returns the files' paths.
    """
    path, configs = Path(path), {"task_cfg": checkpoint.task_cfg, "model_cfg": checkpoint.model_cfg}
    configs = {kind: _plain_only(config) for kind, config in configs.items()}
    if path.suffix != ".safetensors":
        with whole(path) as temporary, open(temporary, "wb") as file:  # torch would put its name into it
            torch.save({**configs, "model_weight": checkpoint.model_weight}, file)
        return [path]
    described = path.with_suffix(".json")
    weights = {
        name: weight.clone() for name, weight in checkpoint.model_weight.items()
    }  # none shares a storage
    with whole(path) as temporary:
        put_tensors(temporary, weights)
        write_text(described, json.dumps(configs, indent=1) + "\n")
    return [path, described]


def _plain_only(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not isinstance(value, Name)}
