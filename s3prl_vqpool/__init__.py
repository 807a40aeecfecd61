"""Vector-quantization pooling (arXiv 2304.03940) for S3PRL and SUPERB.

Importing this package imports neither torch nor S3PRL. It only prepares the import of S3PRL: whoever imports
`s3prl.hub` or `s3prl.downstream` later, in any way, finds the upstreams and downstreams of this package there.
`s3prl_vqpool.pooling` needs torch alone and works where S3PRL is not installed.

    from s3prl_vqpool import Embedder
    embed = Embedder("wav2vec2_vq", pooling="VQ-LP")
    vectors = embed(["one.wav", "two.flac"])  # float32 [2, D]
"""

from typing import TYPE_CHECKING, Any

from .runner import hook

if TYPE_CHECKING:
    from .store.embedder import Embedder

__all__ = ["Embedder", "register"]

__version__ = "0.1.0"


def register() -> None:
    """Import S3PRL now and put this package's upstreams and downstreams there; further calls change nothing.

    Raises:
        ImportError: S3PRL, or something that it or an upstream needs, cannot be imported.
    """
    from .runner import plugin

    plugin.register()


def __getattr__(name: str) -> Any:
    """`Embedder`, imported when it is asked for."""
    if name == "Embedder":
        from .store.embedder import Embedder

        return Embedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


hook.install()
