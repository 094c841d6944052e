"""Which tensors of a model are its own, and which others published."""

from arlon_cli.config import ModelConfig

_ADDED = ("injection.", "linear_estimate.")  # what this project puts around a published backbone


def is_own(config: ModelConfig, part: str, tensor: str) -> bool:
    """Whether a tensor of a part may be trained and stands in the model's checkpoints.

    Of parts that others published, only what is added to them: the DiT's adapters around the frozen backbone.
    """
    if config.published is None or not hasattr(config.published, part):
        return True
    return part == "dit" and tensor.startswith(_ADDED)
