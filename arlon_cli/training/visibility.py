"""How much of an error of latents is seen: colours and broad shapes more than fine grain, which latents are full of."""

import torch
from torch import Tensor

from arlon_cli.models.video_vae import VideoVAE

_CHROMA = 3.0  # of squares of chroma, beside those of luma
_BROAD = 1.5  # of squares of the means of 4 frames by 4×4 pixels, beside those of all pixels
_EVEN = 0.25  # that each direction of latents counts for at least, where the mean one counts for 1
_YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))  # ITU-R BT.601


@torch.no_grad()
def visibility(vae: VideoVAE) -> Tensor:
    """R (C, C), so that |R·e|² says how much is seen of an error e (C,) of normalised latents.

    What e changes in a patch of 4×8×8 pixels is told by the VAE's linear decoder, in luma and chroma.
    """
    time, height, width = vae.linear_decoder.factor
    weight = vae.linear_decoder.linear.weight.cpu().double() / vae.scale.cpu().double()
    patch = weight.unflatten(0, (3, time, height // 4, 4, width // 4, 4))
    weights = patch.new_tensor([1.0, _CHROMA, _CHROMA]).sqrt()
    seen = torch.einsum("ij,j...->i...", patch.new_tensor(_YCBCR) * weights[:, None], patch)
    broad = seen.mean((1, 3, 5)) * (4 * 4 * time * _BROAD) ** 0.5
    directions = torch.cat([seen.flatten(0, -2), broad.flatten(0, -2)])
    form = directions.T @ directions
    strengths, axes = torch.linalg.eigh(form / form.diagonal().mean())
    return (axes * (strengths.clamp(min=0) + _EVEN).sqrt()).T.float().to(vae.scale.device)
