"""The four problems: S3PRL's own, with our upstream and head (s3prl/problem/common/superb_*.py)."""

from __future__ import annotations

from typing import Any

from s3prl.problem import SuperbER, SuperbIC, SuperbKS, SuperbSID
from torch import nn

from ..errors import InputError
from ..runner import statistics
from ..runner.library import UpstreamWithCodes
from .head import DEFAULTS, PoolingHead


class Vqpool:
    """What the four share: `build_upstream` publishes codes, and `build_downstream` takes a pooling.

    Keys of `build_downstream`: ``hidden_size`` (256), ``pooling`` (VQ-LP), ``pooling_options`` and
    ``pooling_statistics``, a file of counts for poolings that need them. All else is as in S3PRL.
    """

    def default_config(self) -> dict[str, Any]:
        return {**super().default_config(), "build_downstream": dict(DEFAULTS)}  # type: ignore[misc]

    def build_upstream(self, build_upstream: dict[str, Any]) -> UpstreamWithCodes:
        """The upstream of arguments for `s3prl.nn.S3PRLUpstream`."""
        return UpstreamWithCodes(**build_upstream)

    def build_downstream(
        self,
        build_downstream: dict[str, Any],
        downstream_input_size: int,
        downstream_output_size: int,
        downstream_input_stride: int,
    ) -> PoolingHead:
        """The head. Raises InputError for an unknown key, pooling or option."""
        return PoolingHead(downstream_input_size, downstream_output_size, build_downstream)

    def build_model(
        self,
        build_model: dict[str, Any],
        model_output_size: int,
        build_upstream: dict[str, Any],
        build_featurizer: dict[str, Any],
        build_downstream: dict[str, Any],
    ) -> nn.Module:
        """S3PRL's model of upstream, featurizer and head; the head gets its training statistics.

        Raises:
            InputError: also for a pooling that needs codes on an upstream without, and for statistics that are
                missing, damaged, or of another upstream.
        """
        model = super().build_model(  # type: ignore[misc]
            build_model, model_output_size, build_upstream, build_featurizer, build_downstream
        )
        head, upstream = model.downstream, model.upstream.upstream
        method = head.model.method
        if method.needs_codes and not isinstance(upstream, statistics.WithCodes):
            raise InputError(
                f"build_downstream.pooling {method.name}: upstream {build_upstream['name']} has no codes: choose one "
                "that has (vqpool list upstreams), or pooling mean."
            )
        if head.lacks_statistics:
            expected = statistics.whose(upstream)
            head.set_statistics(*statistics.load(method, head.statistics_path, expected))
        return model


class VqpoolKS(Vqpool, SuperbKS):
    """`s3prl.problem.SuperbKS` with a pooling."""


class VqpoolSID(Vqpool, SuperbSID):
    """`s3prl.problem.SuperbSID` with a pooling."""


class VqpoolIC(Vqpool, SuperbIC):
    """`s3prl.problem.SuperbIC` with a pooling."""


class VqpoolER(Vqpool, SuperbER):
    """`s3prl.problem.SuperbER` with a pooling."""
