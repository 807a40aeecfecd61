#!/usr/bin/env python3
"""S3PRL's run_downstream.py with VQ pooling registered; `--help` shows the options."""

import sys

from s3prl_vqpool.runner.run_downstream import main

if __name__ == "__main__":
    sys.exit(main())
