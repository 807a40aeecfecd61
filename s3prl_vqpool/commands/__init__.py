"""The verbs of `vqpool`, one module each: HELP, EXAMPLE, add_arguments(parser), run(args) -> exit code."""
