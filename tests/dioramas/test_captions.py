"""Captions stay within their vocabulary and length, vary, and reach the paper's own prompts."""

from arlon_cli.dioramas import FAMILIES, caption, sample_scene, vocabulary
from arlon_cli.dioramas.captions import MAX_TOKENS, tokens

PAPER = (
    "A majestic dormant volcano rises in the center of a tranquil landscape, with its rugged slopes contrasting the lush "
    "forest below, set against clear skies and rolling hills, evoking a sense of solitude and timeless serenity.",
    "An erupting volcano dominates the scene, with fiery lava and ash contrasting the lush forest below, as dark clouds "
    "and lightning fill the sky, capturing the chaos and power of nature's fury.",
    "A breathtaking aerial view of a rocky coastline. The coastline is a mosaic of small rocks and boulders. The deep blue "
    "water of the sea crashes against the shore, creating a frothy white foam that contrasts beautifully with the "
    "surrounding landscape.",
)


def test_every_word_is_in_the_vocabulary() -> None:
    words = set(vocabulary())
    assert len(words) <= 1400
    for seed in range(3000):
        scene = sample_scene(seed, num_frames=256)
        said = tokens(caption(scene, seed % len(scene.spans), seed))
        assert 0 < len(said) <= MAX_TOKENS
        assert words.issuperset(said)


def test_no_rule_is_left_unexpanded() -> None:
    for seed in range(1000):
        text = caption(sample_scene(seed, num_frames=256), 0, seed)
        assert not set("{}[]") & set(text)
        assert "  " not in text


def test_many_paraphrases_and_repeatable() -> None:
    for family in FAMILIES:
        scene = sample_scene(1, family=family, num_frames=256)
        texts = [caption(scene, 0, seed) for seed in range(50)]
        assert len(set(texts)) > 30
        assert texts == [caption(scene, 0, seed) for seed in range(50)]


def test_the_papers_prompts_come_up() -> None:
    said = set()
    for seed in range(12000):
        scene = sample_scene(seed, family=("volcano", "coast")[seed % 2], num_frames=256)
        said.add(caption(scene, 0, seed))
    assert said.issuperset(PAPER)
    assert set(vocabulary()).issuperset(word for prompt in PAPER for word in tokens(prompt))
