"""What the tests of mistakes share: parts of a command line."""

from __future__ import annotations

DATARC, MODELRC = "config.downstream_expert.datarc", "config.downstream_expert.modelrc"


START = ("-m", "train", "-n", "a", "-u", "mfcc_vq", "-d", "vqpool_er")


SHORT = "config.runner.total_steps=20,,config.runner.gradient_accumulate_steps=1,,config.runner.eval_step=50"


def replaced(argv: tuple, option: str, value: str) -> tuple:
    """The command line with another value, or without the option where the value is empty."""
    at = argv.index(option)
    return (*argv[:at], *((option, value) if value else ()), *argv[at + 2 :])
