"""`vqpool VERB ...`: one verb a file, each with HELP, EXAMPLE, add_arguments(parser), run(args) -> exit code."""

from .main import VERBS, main, module_of

__all__ = ["VERBS", "main", "module_of"]
