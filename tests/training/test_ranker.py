import torch

from arlon_cli.config import ModelConfig
from arlon_cli.dioramas import caption, mentioned, sample_scene
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.clips import LatentClips, decode_clips
from arlon_cli.training.data import scene_of
from arlon_cli.training.ranker import corrupted_conditions, frames_loss, mentions_loss, read_frames, told_by

VALUES = [(name, value) for name, values in VISIBLE.items() for value in values]


class Repeats:
    """A text encoder whose text is the prompts themselves, for the test to see."""

    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        self.prompts = prompts
        return torch.zeros(len(prompts), 1, 16), torch.ones(len(prompts), 1, dtype=torch.bool)


def test_what_is_told_is_what_the_caption_mentions() -> None:
    text_encoder, seeds = Repeats(), range(24)
    _, told = told_by(text_encoder, seeds)  # type: ignore[arg-type]
    for seed, prompt, row in zip(seeds, text_encoder.prompts, told, strict=True):
        scene = scene_of(seed)
        attributes = scene.spans[-1].attributes
        assert prompt == caption(scene, len(scene.spans) - 1, seed)
        said = mentioned(prompt, attributes) & VISIBLE.keys()
        assert {VALUES[place] for place in row.nonzero().flatten().tolist()} == {(n, attributes[n]) for n in said}
    assert 1 < told.sum(1).mean() < len(VISIBLE)  # captions leave things out


def test_frames_are_read_where_one_state_holds() -> None:
    scene = next(s for s in (sample_scene(seed, num_frames=160) for seed in range(99)) if len(s.spans) == 2)
    codes = torch.arange(20).view(1, 20, 1, 1)
    frames, values = read_frames(codes, LatentClips(torch.empty(0), [scene], [0]), 8)
    first, second = scene.spans
    for frame, value in zip(frames.flatten().tolist(), values.tolist(), strict=True):
        span = first if 8 * frame + 8 <= first.end else second
        assert span is first or 8 * frame >= second.settled
        assert value == [VISIBLE[name].index(span.attributes[name]) for name in VISIBLE]
    hidden = set(range(20)) - set(frames.flatten().tolist())
    assert hidden == {f for f in range(20) if 8 * f + 8 > first.end and 8 * f < second.settled}


def test_the_ranker_learns_one_batch(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    assert tiny_config.ranker is not None
    ranker = DraftRanker(tiny_config.ranker)
    condition = torch.randn(8, 4, 2, 4, 4)
    values = torch.stack([torch.randint(len(some), (8,)) for some in VISIBLE.values()], dim=1)
    text, mask = torch.randn(8, 3, 16), torch.ones(8, 3, dtype=torch.bool)
    starts = torch.tensor([0, *tiny_config.ranker.num_values[:-1]]).cumsum(0)
    told = torch.zeros(8, len(VALUES)).scatter_(1, values + starts, 1.0)
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=3e-3)
    for _ in range(200):
        of_frames, accuracies = frames_loss(ranker, condition, values)
        of_captions, metrics = mentions_loss(ranker, (text, mask), told)
        optimizer.zero_grad()
        (of_frames + of_captions).backward()
        optimizer.step()
    ranker.eval()
    assert set(accuracies) == set(VISIBLE)
    assert metrics["right"] == 1.0
    with torch.no_grad():
        scores, mirrored = (
            torch.stack([ranker(text[i : i + 1], mask[i : i + 1], some, first=False) for i in range(8)])
            for some in (condition, condition.flip(-1))
        )
    assert scores.argmax(1).tolist() == list(range(8))  # each prompt likes its own frame best
    assert mirrored.argmax(1).tolist() == list(range(8))


def test_what_reads_captions_shares_nothing_with_what_reads_frames(tiny_config: ModelConfig) -> None:
    assert tiny_config.ranker is not None
    ranker = DraftRanker(tiny_config.ranker)
    text, mask = torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
    mentions_loss(ranker, (text, mask), torch.zeros(2, len(VALUES)))[0].backward()
    by_captions = {name for name, parameter in ranker.named_parameters() if parameter.grad is not None}
    ranker.zero_grad()
    values = torch.zeros(2, len(VISIBLE), dtype=torch.long)
    frames_loss(ranker, torch.randn(2, 4, 2, 4, 4), values)[0].backward()
    by_frames = {name for name, parameter in ranker.named_parameters() if parameter.grad is not None}
    assert by_captions == {"mentioned.weight", "mentioned.bias"}
    assert by_captions | by_frames == dict(ranker.named_parameters()).keys()
    assert not by_captions & by_frames


def test_a_few_codes_of_what_is_shown_are_wrong(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    vqvae = LatentVQVAE(tiny_config.latent_vqvae).eval()
    frames = torch.randint(16, (200, 2, 2))
    shown, right = corrupted_conditions(vqvae, frames), decode_clips(vqvae, frames[:, None])
    assert shown.shape == (200, 4, 2, 4, 4)
    same = (shown - right).abs().flatten(1).amax(1) < 1e-3
    assert 0.6 < same.float().mean() < 0.95  # 0.9 of the codes of a frame stay in the mean, and there are four
