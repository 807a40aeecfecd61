"""SUPERB's KS, SID, IC and ER in S3PRL's newer API, `s3prl.problem`, with any pooling (docs/guides/problem.md).

It needs what S3PRL's modules import there: ``pip install s3prl-vqpool[superb]``.
"""

try:
    from .superb import VqpoolER, VqpoolIC, VqpoolKS, VqpoolSID
except ModuleNotFoundError as error:
    raise ImportError(f"s3prl.problem needs {error.name}: pip install s3prl-vqpool[superb]") from error

__all__ = ["VqpoolER", "VqpoolIC", "VqpoolKS", "VqpoolSID"]
