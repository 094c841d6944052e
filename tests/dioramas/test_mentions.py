"""What captions tell is known from the grammar."""

from collections import Counter

from arlon_cli.dioramas import caption, mentioned, sample_scene


def test_mentions_of_known_captions() -> None:
    sailing = {"family": "sailboat", "time": "night", "weather": "storm", "colour": "green", "count": "none"}
    assert mentioned("A boat with a green sail glides in stormy weather.", sailing) == {"family", "weather", "colour"}
    assert mentioned("green sailboat at night", sailing) == {"family", "time", "colour"}
    assert mentioned("Boat with a crimson sail.", sailing) == {"family"}
    fish = {"family": "aquarium", "count": "one", "colour": "orange", "state": "none"}
    assert mentioned("An orange fish swims.", fish) == {"family", "count", "colour"}
    assert mentioned("Many orange fish.", fish) == {"family", "colour"}


def test_only_what_applies_is_mentioned_and_each_attribute_is_at_times() -> None:
    said, applies = Counter[str](), Counter[str]()
    for seed in range(400):
        scene = sample_scene(seed, num_frames=256)
        attributes = scene.spans[0].attributes
        found = mentioned(caption(scene, 0, seed), attributes)
        assert all(attributes[name] != "none" for name in found)
        said.update(found)
        applies.update(name for name, value in attributes.items() if value != "none")
    assert said["family"] == 400
    assert all(said[name] > 0 for name in applies)
    assert all(said[name] < applies[name] for name in ("time", "weather", "state", "camera"))
    assert said["colour"] > 0.95 * applies["colour"]
