"""Vector-quantization pooling (arXiv 2304.03940) for S3PRL and SUPERB.

Importing this package registers the upstreams and downstreams with S3PRL. `s3prl_vqpool.pooling` needs torch
alone and can be used where S3PRL is not installed.
"""

import warnings
from importlib.util import find_spec

from .errors import InputError

__version__ = "0.1.0"

if find_spec("s3prl") is not None:
    from .runner.plugin import register

    try:
        register()
    except (InputError, ImportError, OSError) as error:
        warnings.warn(f"not registered with S3PRL ({error}); `vqpool doctor` says more", stacklevel=2)
