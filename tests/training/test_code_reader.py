import torch

from arlon_cli.dioramas import sample_scene
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.clips import LatentClips
from arlon_cli.training.code_reader import CodeReader, places_of, read_frames, reader_loss


def test_a_code_is_read_with_those_before_it() -> None:
    torch.manual_seed(0)
    reader = CodeReader(torch.randn(32, 8), 6).eval()
    codes = torch.randint(32, (2, 6))
    changed = codes.clone()
    changed[:, 3] = (codes[:, 3] + 1) % 32
    read, others = reader(codes, codes.unsqueeze(2)), reader(changed, changed.unsqueeze(2))
    assert torch.allclose(read[:, :3], others[:, :3], atol=1e-6)
    assert not torch.allclose(read[:, 3], others[:, 3])
    assert not torch.allclose(read[:, 4], others[:, 4])
    both = reader(codes, torch.stack([codes, changed], dim=2))  # candidates are read in place of what stands there
    assert torch.allclose(both[:, :, :1], read, atol=1e-6)
    assert torch.allclose(both[:, 3, 1:], others[:, 3], atol=1e-6)


def test_probabilities_of_each_attribute_add_up_to_one() -> None:
    torch.manual_seed(0)
    codes = torch.randint(32, (2, 6))
    read = CodeReader(torch.randn(32, 8), 6).eval()(codes, codes.unsqueeze(2)).exp()
    for some in read.split([len(values) for values in VISIBLE.values()], dim=-1):
        assert torch.allclose(some.sum(-1), torch.ones(2, 6, 1), atol=1e-5)


def test_values_are_found_among_those_of_all_attributes() -> None:
    everything = [(name, value) for name, values in VISIBLE.items() for value in values]
    values = torch.tensor([[len(some) - 1 for some in VISIBLE.values()], [0] * len(VISIBLE)])
    last, first = ([everything[place] for place in row] for row in places_of(values).tolist())
    assert last == [(name, values[-1]) for name, values in VISIBLE.items()]
    assert first == [(name, values[0]) for name, values in VISIBLE.items()]


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


def test_the_reader_learns_one_batch() -> None:
    torch.manual_seed(0)
    reader = CodeReader(torch.randn(32, 8), 4)
    codes = torch.randint(32, (8, 2, 2))
    values = torch.stack([torch.randint(len(some), (8,)) for some in VISIBLE.values()], dim=1)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    for _ in range(80):
        value, metrics = reader_loss(reader, codes, values)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    reader.eval()
    codes = codes.flatten(1)
    last = reader(codes, codes.unsqueeze(2))[:, -1, 0]
    assert set(metrics) == set(VISIBLE)
    assert last.gather(1, places_of(values)).exp().min() > 0.5
