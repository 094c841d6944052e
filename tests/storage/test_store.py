import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from arlon_cli.errors import ArlonError, InputError
from arlon_cli.storage.partial import partial_file
from arlon_cli.storage.store import Store, artifact_key, parse_size

TENSORS = {"latents": torch.arange(250, dtype=torch.float32)}  # about 1 kB


def test_reads_what_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path, 10**6)
    assert store.read("latents", "abc") is None
    store.write("latents", "abc", TENSORS)
    found = store.read("latents", "abc")
    assert found is not None
    assert torch.equal(found["latents"], TENSORS["latents"])
    assert store.read("codes", "abc") is None


def test_keys_depend_on_every_value_and_not_on_order() -> None:
    assert artifact_key(a=1, b=[2, "x"]) == artifact_key(b=[2, "x"], a=1)
    assert len({artifact_key(a=1), artifact_key(a=2), artifact_key(b=1), artifact_key(a="1")}) == 4


def test_a_damaged_file_is_absent(tmp_path: Path) -> None:
    store = Store(tmp_path, 10**6)
    store.write("latents", "abc", TENSORS)
    path = store.path("latents", "abc")
    path.write_bytes(path.read_bytes()[:-100])
    assert store.read("latents", "abc") is None
    assert not path.exists()


@pytest.mark.parametrize("place", [3, 40, 300, -5])
def test_a_file_with_a_flipped_bit_is_absent(tmp_path: Path, place: int) -> None:
    store = Store(tmp_path, 10**6)
    store.write("latents", "abc", TENSORS)
    path = store.path("latents", "abc")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert store.read("latents", "abc") is None
    store.write("latents", "abc", TENSORS)
    assert store.read("latents", "abc") is not None


def test_an_artifact_under_another_key_is_absent(tmp_path: Path) -> None:
    store = Store(tmp_path, 10**6)
    store.write("latents", "abc", TENSORS)
    store.path("latents", "abc").rename(store.path("latents", "abd"))
    assert store.read("latents", "abd") is None


def test_a_key_that_leads_out_of_the_store_is_absent(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"not an artifact")
    store = Store(tmp_path / "store", 10**6)
    store.write("latents", "abc", TENSORS)
    for key in (str(mine.with_suffix("")), "../../../mine", "ab/../../../../mine", ""):
        assert store.read("latents", key) is None
    assert mine.read_bytes() == b"not an artifact"


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path, 10**6)
    path = store.path("latents", "abc")
    path.parent.mkdir(parents=True)
    torch.save(TENSORS, path)
    assert store.read("latents", "abc") is None


def test_the_least_recently_used_goes(tmp_path: Path) -> None:
    store = Store(tmp_path, 3700)
    for age, key in enumerate(("first", "second", "third")):
        store.write("latents", key, TENSORS)
        os.utime(store.path("latents", key), (1000 + age, 1000 + age))
    assert store.read("latents", "first") is not None  # a use
    store.write("codes", "fourth", TENSORS)
    assert store.read("latents", "second") is None
    assert all(store.read(kind, key) for kind, key in (("latents", "first"), ("latents", "third"), ("codes", "fourth")))


def test_files_are_counted_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    artifacts = Store.artifacts
    monkeypatch.setattr(Store, "artifacts", lambda store: counts.append(1) or artifacts(store))
    store = Store(tmp_path, 10**7)  # a hundredth of which is some eighty artifacts
    for number in range(100):
        store.write("latents", f"key{number}", TENSORS)
    assert 1 <= len(counts) <= 5


def test_the_newest_result_may_have_any_name(tmp_path: Path) -> None:
    store, result = Store(tmp_path / "store", 10**6), tmp_path / os.fsdecode(b"caf\xe9.mp4")
    result.touch()
    store.remember_result(result)
    assert store.last_result() == result


@pytest.mark.parametrize(("name", "value"), [("SIZE", "9" * 400), ("SIZE", "many"), ("DIR", "~nosuchuser/store")])
def test_what_can_be_no_store_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ARLON_CACHE_{name}", value)
    with pytest.raises(InputError):
        Store.from_environment()


def test_what_is_written_stays_even_beyond_the_limit(tmp_path: Path) -> None:
    store = Store(tmp_path, 10)
    store.write("latents", "only", TENSORS)
    assert store.read("latents", "only") is not None
    assert store.evict(limit=0) > 0
    assert store.read("latents", "only") is None


def test_writers_at_once_leave_whole_files_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path, 3000)  # less than three artifacts: writers also remove
    with ThreadPoolExecutor(12) as writers:
        list(writers.map(lambda i: store.write("latents", f"key{i % 3}", TENSORS), range(12)))
    assert not list(tmp_path.rglob(".*"))
    assert all(store.read(kind, path.stem) is not None for kind, path, _ in list(store.artifacts()))


def test_what_is_being_written_is_no_artifact_and_never_removed(tmp_path: Path) -> None:
    store = Store(tmp_path, 10**6)
    store.write("latents", "abc", TENSORS)
    with partial_file(store.path("latents", "abd")) as at_work:
        at_work.write_bytes(b"half")
        assert [path.stem for _, path, _ in store.artifacts()] == ["abc"]
        assert store.evict(limit=0) > 0
        assert at_work.exists()
    assert not list(store.artifacts())


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArlonError, match="ARLON_CACHE_DIR"):
        Store(tmp_path / "file", 10**6).write("latents", "abc", TENSORS)


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARLON_CACHE_DIR", str(tmp_path / "here"))
    assert Store.from_environment() == Store(tmp_path / "here", 10 * 10**9)
    monkeypatch.setenv("ARLON_CACHE_SIZE", "1.5 MB")
    assert Store.from_environment().limit == 1_500_000


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("5k", 5000), ("500MB", 5 * 10**8), ("2 gb", 2 * 10**9)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 PB", "1e3"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError):
        parse_size(text)
