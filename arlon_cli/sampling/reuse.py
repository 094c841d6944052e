"""Steps that repeat the last velocity instead of computing one, where little has changed."""

from torch import Tensor

from arlon_cli.sampling.rectified_flow import Network


class Reuse:
    """A network that is evaluated again only once x_t has changed by `threshold` since, summed over the steps.

    As in TeaCache (Liu et al., 2025), a step's change is the mean absolute difference to the step before as a share of
    the mean absolute value; it is that of x_t itself, since v repeated is exact where the flow is straight. One object
    serves one walk of `RectifiedFlow.sample`; `evaluated` counts the calls that were not repeated.
    """

    def __init__(self, network: Network, threshold: float) -> None:
        self.network, self.threshold = network, threshold
        self.evaluated = 0
        self._before: Tensor | None = None
        self._v: Tensor | None = None
        self._change = 0.0

    def __call__(self, x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
        if self._before is not None:
            self._change += float((x_t - self._before).abs().mean() / self._before.abs().mean())
        self._before = x_t
        if self._v is None or self._change >= self.threshold:
            self._v = self.network(x_t, timestep, x_mask)
            self._change = 0.0
            self.evaluated += 1
        return self._v
