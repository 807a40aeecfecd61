"""`python -m s3prl_vqpool` is `vqpool`."""

import sys

from .cli.main import main

sys.exit(main())
