"""How the latent VQ-VAE is trained: first as an autoencoder, then with a codebook of running averages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.training.processes import ALONE, Processes

_NEAREST_AT_ONCE = 1 << 16  # vectors, whose distances from all of a codebook are in memory together


@dataclass(frozen=True)
class VQVAESettings:
    """Clips have `num_latents` latents; the codebook starts after `autoencoder_steps`, from `start_batches` batches.

    `codebook_decay` is that of the averages; codes used less than `dead_below` times the average code are revived.
    """

    num_latents: int
    autoencoder_steps: int
    commitment_weight: float
    codebook_decay: float
    dead_below: float
    start_batches: int
    lloyd_iterations: int


DIORAMA_VQVAE = VQVAESettings(
    num_latents=24,
    autoencoder_steps=500,
    commitment_weight=0.25,
    codebook_decay=0.99,
    dead_below=0.03,
    start_batches=16,
    lloyd_iterations=10,
)


class CodebookEMA:
    """The codebook as running means of the vectors that chose each entry; changed by `start` and `update` only.

    Random numbers come from torch's global generator. `state_dict` and the module's own `codebook` are all there is
    to keep for an exact resume.
    """

    def __init__(self, codebook: Tensor, *, decay: float, dead_below: float) -> None:
        """`codebook` (K, D) is changed in place."""
        self.codebook, self.decay, self.dead_below = codebook, decay, dead_below
        self.started = torch.zeros((), dtype=torch.bool)
        self.counts = torch.zeros(len(codebook), device=codebook.device)
        self.sums = torch.zeros_like(codebook, dtype=torch.float32)

    @torch.no_grad()
    def start(self, vectors: Tensor, *, lloyd_iterations: int) -> None:
        """Set the codebook to the k-means of vectors (N, D)."""
        vectors = vectors.float()
        centres = k_means(vectors, len(self.codebook), lloyd_iterations)
        self.codebook.copy_(centres)
        self.counts = torch.bincount(_nearest(vectors, centres), minlength=len(centres)).float()
        self.sums = centres * self.counts[:, None]
        self.started.fill_(True)

    @torch.no_grad()
    def adopt(self, num_vectors: int) -> None:
        """Go on from the codebook as it is, where each update brings about `num_vectors` vectors."""
        self.counts.fill_(num_vectors / len(self.codebook))
        self.sums = self.codebook.float() * self.counts[:, None]
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Move each entry towards the mean of those vectors (N, D) that are nearest to it, then revive dead entries."""
        vectors = vectors.float()
        codes = _nearest(vectors, self.codebook.float())
        self.counts.lerp_(torch.bincount(codes, minlength=len(self.codebook)).float(), 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, codes, vectors), 1 - self.decay)
        typical = self.counts.mean()
        dead = self.counts < self.dead_below * typical
        error = (vectors - self.codebook.float()[codes]).square().sum(1)
        fresh = vectors[_draw(error, len(self.codebook))]  # where the codebook fits worst
        revived = 0.5 * typical  # a while to be chosen in before the entry counts as dead again
        self.counts = torch.where(dead, revived, self.counts)
        self.sums = torch.where(dead[:, None], fresh * revived, self.sums)
        self.codebook.copy_(self.sums / self.counts.clamp_min(1e-6)[:, None])

    def state_dict(self) -> dict[str, Tensor]:
        return {"started": self.started, "counts": self.counts, "sums": self.sums}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.started.copy_(state["started"])
        self.counts.copy_(state["counts"])
        self.sums.copy_(state["sums"])


class VQVAETraining:
    """Loss and codebook of a run, as the loop calls them: `loss(latents)` once or more, then `after_step(step)`.

    Make it once the module is on its device, since the codebook is changed in place there. `batch_at(index)` gives
    batches for the codebook's start; `processes` learn from the vectors of all of them; `visible` is what
    `relative_error` takes.
    `codebook` is the run's state beside the module's: hand `codebook.state_dict` and `codebook.load_state_dict` on.
    """

    def __init__(
        self,
        vqvae: LatentVQVAE,
        settings: VQVAESettings,
        batch_at: Callable[[int], Tensor],
        processes: Processes = ALONE,
        visible: Tensor | None = None,
    ) -> None:
        self.vqvae, self.settings, self.batch_at = vqvae, settings, batch_at
        self.processes, self.visible = processes, visible
        self.codebook = CodebookEMA(vqvae.codebook, decay=settings.codebook_decay, dead_below=settings.dead_below)
        self._embedded: list[Tensor] = []  # vectors of the micro-batches since the last step

    def loss(self, latents: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of latents (B, C, T, H, W) and its metrics; those of the codebook come once it has started."""
        loss, metrics, embedded = vqvae_loss(
            self.vqvae,
            latents,
            commitment_weight=self.settings.commitment_weight,
            quantize=bool(self.codebook.started),
            visible=self.visible,
        )
        self._embedded.append(_vectors(embedded))
        return loss, metrics

    def after_step(self, step: int) -> None:
        """Start the codebook at the end of the autoencoder's steps, and update it after each later one."""
        vectors = torch.cat(self._embedded)
        self.forget()
        if self.codebook.started:
            self.codebook.update(self.processes.gather(vectors))
        elif step + 1 >= self.settings.autoencoder_steps:
            ahead = range(step + 1, step + 1 + self.settings.start_batches)
            with torch.no_grad():
                first = torch.cat([_vectors(self.vqvae.embed(self.batch_at(i)).float()) for i in ahead])
            self.codebook.start(first, lloyd_iterations=self.settings.lloyd_iterations)
        for tensor in (self.vqvae.codebook, *self.codebook.state_dict().values()):
            self.processes.agree(tensor)  # sums on GPUs come out as they please, and what they decide stays

    def forget(self) -> None:
        """Drop what `loss` was given since the last step, where no step follows."""
        self._embedded = []


def vqvae_loss(
    vqvae: LatentVQVAE,
    latents: Tensor,
    *,
    commitment_weight: float,
    quantize: bool,
    visible: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Loss, metrics and V (B, D, t, h, w) of latents (B, C, T, H, W); without `quantize`, of a plain autoencoder.

    Metrics: `mse` of F relative to the latents' variance (1: no better than their mean), as it is `visible`, and where
    quantised `commitment` (relative to V, whose mean square is 1), `perplexity` and `usage`, the share of codes in
    this batch.
    """
    embedded = vqvae.embed(latents).float()
    commitment, metrics, passed = latents.new_zeros(()), {}, embedded
    if quantize:
        quantized, codes = vqvae.quantize(embedded)
        commitment = F.mse_loss(embedded, quantized)
        share = torch.bincount(codes.flatten(), minlength=len(vqvae.codebook)) / codes.numel()
        perplexity = torch.special.entr(share).sum().exp()
        metrics = {"commitment": commitment, "perplexity": perplexity, "usage": (share > 0).float().mean()}
        passed = embedded + (quantized - embedded).detach()  # straight through
    condition = vqvae.reconstruct(passed)[:, :, : latents.shape[2]].float()
    mse = relative_error(condition, latents, visible)
    metrics["mse"] = mse
    detached = {name: value.detach() for name, value in metrics.items()}
    return mse + commitment_weight * commitment, detached, embedded.detach()


def decoder_loss(
    vqvae: LatentVQVAE, latents: Tensor, visible: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean square error of F of the codes of latents (B, C, T, H, W), relative to the latents' variance.

    What decodes is all that learns from it: codes that others know stay as they are.
    """
    with torch.no_grad():
        codes = vqvae.encode(latents)
    condition = vqvae.decode(codes)[:, :, : latents.shape[2]].float()
    mse = relative_error(condition, latents, visible)
    return mse, {"mse": mse.detach()}


def relative_error(condition: Tensor, latents: Tensor, visible: Tensor | None = None) -> Tensor:
    """Mean square error of F, relative to the variance of latents, (B, C, T, H, W) both.

    With `visible` (C, C), of what that makes of either: see `training/visibility.py`.
    """
    if visible is not None:
        condition, latents = (torch.einsum("ij,bj...->bi...", visible, x) for x in (condition, latents))
    return F.mse_loss(condition, latents) / latents.var(dim=(0, 2, 3, 4)).mean()


def k_means(vectors: Tensor, num_centres: int, iterations: int) -> Tensor:
    """Centres (K, D) of vectors (N, D): a k-means++ start, then Lloyd's iterations. With N < K some centres repeat."""
    squares = vectors.square().sum(1)
    centres = vectors.new_empty(num_centres, vectors.shape[1])
    distance = torch.ones_like(squares)
    for index in range(num_centres):
        centres[index] = centre = vectors[_draw(distance, 1)[0]]
        # as a product: differences, as large as `vectors`, left the C library's heap in pieces, gigabytes of them
        from_centre = (squares - 2 * vectors @ centre + centre.square().sum()).clamp(min=0)
        distance = torch.minimum(distance, from_centre) if index else from_centre
    for _ in range(iterations):
        nearest = _nearest(vectors, centres)
        counts = torch.bincount(nearest, minlength=num_centres)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


def _draw(weights: Tensor, count: int) -> Tensor:
    """Indices (count,) drawn by weights (N,), with repetition."""
    return torch.multinomial(weights + 1e-12, count, replacement=True)


def _vectors(embedded: Tensor) -> Tensor:
    """Vectors (N, D) of V (B, D, t, h, w)."""
    return embedded.movedim(1, -1).flatten(0, -2)


def _nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    squares = centres.square().sum(1)
    return torch.cat([(squares - 2 * some @ centres.T).argmin(1) for some in vectors.split(_NEAREST_AT_ONCE)])
