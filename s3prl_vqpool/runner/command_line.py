"""The command line of run_downstream.py: S3PRL's own parser, and checks of what is given before anything runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import huggingface_hub
import torch
from s3prl.util import download

from .. import checkpoints, pooling
from ..codes.entries import check_given
from ..codes.plain import on_hub
from ..codes.upstream import selected_pooling
from ..errors import InputError, unknown_name
from . import config, named, own, plugin

EXAMPLE = """example:
  run_downstream.py -m train -n ks_vqlp -u wav2vec2_vq -d vqpool_ks \\
      -o "config.downstream_expert.datarc.speech_commands_root=/data/sc,,\
          config.downstream_expert.datarc.speech_commands_test_root=/data/sc_test"
  run_downstream.py -m evaluate -e result/downstream/ks_vqlp/dev-best.ckpt
  run_downstream.py -m inference -e result/downstream/ks_vqlp/dev-best.ckpt -t one.wav
"""


def s3prl_parser() -> argparse.ArgumentParser:
    """S3PRL's own argument parser: its function is stopped where it would parse."""
    from s3prl.run_downstream import get_downstream_args

    captured: list[argparse.ArgumentParser] = []

    class Built(Exception):
        pass

    def stop(parser: argparse.ArgumentParser) -> None:
        captured.append(parser)
        raise Built

    with patch.object(argparse.ArgumentParser, "parse_args", stop), suppress(Built):
        get_downstream_args()
    parser = captured[0]
    own.add_arguments(parser)
    parser.prog, parser.epilog = "run_downstream.py", EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def prepare(argv: list[str]) -> tuple[list[str], Path | None]:
    """The command line, checked, with what S3PRL's defaults lack put before it; and the folder that results go to."""
    argv = [word.replace("--local-rank", "--local_rank", 1) for word in argv]
    parser = s3prl_parser()
    parser.set_defaults(device=None)
    args = parser.parse_args(argv)
    _check_used(args, given(parser, argv))
    added = _device_options(args)
    if args.mode == "inference" and not Path(args.evaluate_split).exists():
        raise InputError(f"-t {args.evaluate_split}: no such audio file or folder for -m inference to label.")
    folder = _expdir_of(args)
    if args.init_ckpt:
        checkpoints.load(args.init_ckpt, required=() if args.mode == "train" else ("Downstream",))
    resumed = _resumed_checkpoint(args)
    if resumed:
        state = checkpoints.load(resumed, required=("Args", "Config", "Featurizer", "Downstream"))
        saved = _saved(parser, args, state, resumed)
        _check_resumed(args, saved, state.get("WorldSize", 1), resumed)
        _check_kept(given(parser, argv), saved, resumed)
        settings, folder = state["Config"], saved.expdir
    else:
        _check_names(args)
        _check_selection(args)
        path, settings = config.find(args.downstream, args.config)
        added += ["-c", str(path)]
        _check_new_experiment(args)
        argv += _corpus(args)
    for option in _overrides(args):
        config.apply(option, settings)
    return [*added, *argv], None if args.mode == "inference" else Path(_moved(args) or folder)


def given(parser: argparse.ArgumentParser, argv: list[str]) -> dict[str, Any]:
    """The options that stand on the command line, without the parser's defaults."""
    absent = object()
    filled = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args(argv)), absent))
    return {
        name: value for name, value in vars(parser.parse_args(argv, filled)).items() if value is not absent
    }


#: Options that S3PRL reads in some runs only: option, by which name, when it does, and what to do.
_ONLY: tuple[tuple[str, str, Callable[[argparse.Namespace], bool], str], ...] = (
    ("-t", "evaluate_split", lambda args: args.mode != "train",
     "-m train reads config.runner.eval_dataloaders: give -o \"config.runner.eval_dataloaders=['dev']\""),
    ("--upstream_revision", "upstream_revision", lambda args: args.hub == "huggingface", "it is for --hub huggingface"),
    ("--upstream_model_name", "upstream_model_name", lambda args: args.hub == "huggingface",
     "it is for --hub huggingface"),
    ("--hf_hub_org", "hf_hub_org", lambda args: bool(args.push_to_hf_hub), "it is for --push_to_hf_hub"),
    ("--verbose", "verbose", lambda args: False, "S3PRL's runner does nothing with it"),
    ("-a", "auto_resume", lambda args: args.mode == "train", "only -m train resumes: name the checkpoint with -e"),
)  # fmt: skip


def _check_used(args: argparse.Namespace, options: Mapping[str, Any]) -> None:
    """InputError for an option that S3PRL would take and drop in this run."""
    for flag, name, used, way_out in _ONLY:
        if name in options and not used(args):
            raise InputError(f"{flag} {options[name]}: would not be used: {way_out}.")
    if args.push_to_hf_hub and not hasattr(huggingface_hub, "HfFolder"):
        raise InputError(
            "--push_to_hf_hub: S3PRL needs huggingface_hub < 1.0 for it: train without, then upload the experiment's "
            "folder with `hf upload`."
        )
    if args.cache_dir:
        download.set_dir(args.cache_dir)  # S3PRL sets torch.hub's, where its own downloads do not go


#: What S3PRL takes from the command line also where it resumes; and what only says that it does, or from what.
_NOT_KEPT = ("mode", "evaluate_split", "override", "backend", "local_rank", "past_exp", "device")
_ABOUT_RESUMING = ("auto_resume", "init_ckpt", "cache_dir", "upstream_refresh")


def _check_kept(options: Mapping[str, Any], saved: argparse.Namespace, path: Path) -> None:
    """InputError for an option that differs from the checkpoint's, which S3PRL would take in its place."""
    ways_out = {
        "config": "change values with -o config.SECTION.KEY=VALUE",
        "expname": f"give -o args.expdir=result/downstream/{options.get('expname')}",
    }
    for name, value in options.items():
        if name in (*_NOT_KEPT, *_ABOUT_RESUMING) or not hasattr(saved, name):
            continue
        kept = getattr(saved, name)
        paths = name in ("expdir", "config") and value and kept
        if value != kept and not (paths and Path(value).resolve() == Path(kept).resolve()):
            way_out = ways_out.get(name, f"give -o args.{name}={value}")
            raise InputError(
                f"--{name} {value}: {path} was trained with {kept}, which S3PRL takes: leave it out, or {way_out}."
            )


def _moved(args: argparse.Namespace) -> str | None:
    """The experiment's folder, if `-o` names it: S3PRL applies that last."""
    options = dict(option.split("=", 1) for option in (args.override or "").split(",,") if "=" in option)
    return next((value.strip() for key, value in options.items() if key.strip() == "args.expdir"), None)


def _overrides(args: argparse.Namespace) -> list[str]:
    """The entries of `-o` that change the config, each of them checked."""
    if args.override is None or args.override.lower() == "none":
        return []
    options = [option.strip() for option in args.override.split(",,")]
    for option in options:
        config.check_override(option)
    return [option for option in options if option.startswith("config.")]


def _corpus(args: argparse.Namespace) -> list[str]:
    """`-o` again, in ``args`` too, if `corpora.yaml` names the corpus: what S3PRL applies, it saves."""
    before = None if args.override is None or args.override.lower() == "none" else args.override
    args.override = named.override(args.downstream, args.config, before)
    return [] if args.override == before else ["-o", str(args.override)]


def _device_options(args: argparse.Namespace) -> list[str]:
    local_rank = os.environ.get("LOCAL_RANK") if args.local_rank is None else args.local_rank
    if not torch.cuda.is_available():
        if local_rank is not None:
            raise InputError(
                "S3PRL's distributed training needs CUDA, which this torch does not see: run one process."
            )
        if args.device and args.device.startswith("cuda"):
            raise InputError(
                f"--device {args.device}: this torch sees no CUDA device; leave it out to use the CPU."
            )
    try:
        torch.device(args.device or "cpu")
    except RuntimeError as error:
        raise InputError(f"--device {args.device}: torch knows no such device.") from error
    options = ["--device", "cpu"] if args.device is None and not torch.cuda.is_available() else []
    if args.local_rank is None and local_rank is not None:
        options += ["--local_rank", local_rank]
    return options


def _resumed_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint that S3PRL will continue from (`-e`, or `-a` where the folder holds one)."""
    past = args.past_exp
    if not past and args.auto_resume and list(Path(_expdir_of(args)).glob("states-*.ckpt")):
        past = _expdir_of(args)
    if not past:
        return None
    if not Path(past).is_dir():
        return Path(past)
    states = sorted(Path(past).glob("states-*.ckpt"), key=lambda path: int(path.stem.split("-")[-1]))
    if not states:
        raise InputError(
            f"-e {past}: this folder holds no states-*.ckpt; name a checkpoint file, or start anew with -n."
        )
    return states[-1]


def _saved(
    parser: argparse.ArgumentParser, args: argparse.Namespace, state: dict[str, Any], path: Path
) -> argparse.Namespace:
    """The checkpoint's arguments; those that it lacks are this command's, as S3PRL fills them in.

    Raises:
        InputError: an argument of another type than the parser gives, no upstream, downstream or folder, or a
            config without the runner's sections.
    """
    saved = argparse.Namespace(**{**vars(args), **vars(state["Args"])})
    kinds = {
        action.dest: (bool if action.nargs == 0 else action.type or str, type(action.default))
        for action in parser._actions
    }
    for name, value in vars(saved).items():
        if value is None:
            fits = name not in ("upstream", "downstream", "expdir")
        else:
            fits = isinstance(value, kinds.get(name, object))  # type: ignore[arg-type]
        if not fits:
            raise InputError(
                f"{path}: its Args have {name} {value!r}, which S3PRL's runner never writes: take another checkpoint."
            )
    config.check_sections(state["Config"], path)
    return saved


def _check_resumed(args: argparse.Namespace, saved: argparse.Namespace, world: int, path: Path) -> None:
    for option, given, kept in (
        ("-u", args.upstream, saved.upstream),
        ("-d", args.downstream, saved.downstream),
        ("-v", args.downstream_variant, saved.downstream_variant),
    ):
        if given is not None and given != kept:
            raise InputError(
                f"{option} {given}: {path} was trained with {option} {kept}; leave {option} out, or use another -n."
            )
    _check_names(saved)
    if args.mode == "train":
        now = int(os.environ.get("WORLD_SIZE", 1))
        if now != world:
            raise InputError(
                f"{path}: trained by {world} process(es), now there are {now}; S3PRL resumes with as many."
            )


def _check_names(args: argparse.Namespace) -> None:
    if args.upstream is None or args.downstream is None:
        raise InputError(
            "-u UPSTREAM and -d DOWNSTREAM are needed to start, e.g. -u wav2vec2_vq -d vqpool_ks."
        )
    if args.hub == "huggingface" and not hasattr(huggingface_hub.HfApi, "login"):
        raise InputError(
            "--hub huggingface: S3PRL signs in through HfApi.login, which this huggingface_hub has not: "
            "download the checkpoint, and give it with -k."
        )
    if args.hub == "torch":
        known = on_hub()
        if args.upstream not in known:
            raise unknown_name("upstream", args.upstream, [*plugin.upstreams(), *known], full_list=False)
        check_given(
            known[args.upstream],
            ckpt=args.upstream_ckpt,
            model_config=args.upstream_model_config,
            refresh=args.upstream_refresh,
        )
    downstreams = _downstreams()
    if args.downstream not in downstreams:
        raise unknown_name("downstream", args.downstream, downstreams, full_list=False)


def _check_selection(args: argparse.Namespace) -> None:
    """S3PRL takes plain hidden states, with a warning, where it does not know `-s`: not for a misspelt pooling."""
    selection = args.upstream_feature_selection
    if args.upstream not in plugin.upstreams():
        return
    method = selected_pooling(selection)
    if method is None:
        _refuse_point(selection)
    if method is None and selection.lower().startswith("vq"):
        known = [name for name in pooling.methods() if pooling.method(name).weights_alone]
        raise unknown_name(
            "feature selection -s", selection, [name.lower().replace("-", "_") for name in known]
        )
    if method is not None and args.downstream in plugin.downstreams():
        raise InputError(
            f"-s {selection} -d {args.downstream}: the frames would be pooled twice; leave -s out, and give "
            f"-o config.downstream_expert.modelrc.pooling={method.name}."
        )
    if method is not None and args.upstream_feature_normalize:
        raise InputError(
            f"-s {selection} with --upstream_feature_normalize: normalising each frame would undo its weight; "
            f"use -d vqpool_* with modelrc.pooling={method.name}."
        )


def _refuse_point(selection: str) -> None:
    """InputError for a pooling that is more than weights: scaled frames carry nothing else to a mean-pooling head."""
    try:
        name = pooling.method(selection).name
    except InputError:
        return
    raise InputError(
        f"-s {selection}: scaled frames can give a head a weighted mean only, without +std and without a map; "
        f"leave -s out, and use -d vqpool_* with modelrc.pooling={name}."
    )


def _downstreams() -> list[str]:
    import s3prl.downstream

    folders = [Path(folder) for folder in s3prl.downstream.__path__]
    theirs = sorted(path.parent.name for folder in folders for path in folder.glob("*/expert.py"))
    return list(dict.fromkeys([*plugin.downstreams(), *theirs]))


def _check_new_experiment(args: argparse.Namespace) -> None:
    expdir = Path(_expdir_of(args))
    if args.expname is None and args.expdir is None:
        raise InputError(
            "-n NAME (result/downstream/NAME) or -p FOLDER is needed: where the experiment is saved."
        )
    if expdir.exists() and not expdir.is_dir():
        raise InputError(f"{expdir} is a file: choose another -n or -p, for the experiment's folder.")
    if args.mode == "train" and list(expdir.glob("*.ckpt")):
        raise InputError(
            f"{expdir} holds an experiment already: continue it with -a, or choose another -n or -p."
        )
    if args.mode != "train" and not args.init_ckpt:
        raise InputError(f"-m {args.mode} needs a trained checkpoint: -e EXPDIR/dev-best.ckpt.")


def _expdir_of(args: argparse.Namespace) -> str:
    return args.expdir or f"result/downstream/{args.expname}"


def expdir(argv: list[str]) -> Path | None:
    args = s3prl_parser().parse_args(argv)
    return None if args.past_exp else Path(_expdir_of(args))
