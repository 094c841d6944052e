"""Users' data sets: tables, shards and bare videos are found as they are described; what is wrong is named."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from arlon_cli.errors import InputError
from arlon_cli.storage.dataset import Source, find_sources, videos_of


def write_shard(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_a_table_names_files_beside_it(tmp_path: Path, name: str) -> None:
    rows = [
        {"file": "a.mp4", "caption": 'a hill, "red"'},
        {"file": "deep/b.webm", "caption": "Meer — unter\u2028Schnee\x85nachts"},
    ]
    if name.endswith("csv"):
        text = f'caption,file,seen\r\n"a hill, ""red""",a.mp4,1\r\n{rows[1]["caption"]},deep/b.webm,2\r\n'
    else:
        text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    (tmp_path / name).write_bytes(text.encode())
    expected = [Source(tmp_path / row["file"], row["caption"]) for row in rows]
    assert find_sources(tmp_path) == expected
    assert find_sources(tmp_path / name) == expected


def test_bare_videos_are_found_in_any_depth_and_have_no_caption(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("deep/b.MOV", "a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert find_sources(tmp_path) == [Source(tmp_path / "a.mp4"), Source(tmp_path / "deep" / "b.MOV")]


def test_shards_give_their_videos_with_captions(tmp_path: Path) -> None:
    members = {
        "one.mp4": b"first",
        "one.txt": b"a red hill\n",
        "two.json": b'{"caption": "a blue sea"}',
        "two.webm": b"second",
        "three.jpg": b"no video",
        "four.mp4": b"third",
    }
    write_shard(tmp_path / "0.tar", members)
    (source,) = find_sources(tmp_path)
    found = [(video.name, video.caption, video.path.read_bytes(), video.path.suffix) for video in videos_of(source)]
    shard = tmp_path / "0.tar"
    assert found == [
        (f"{shard}: one", "a red hill", b"first", ".mp4"),
        (f"{shard}: two", "a blue sea", b"second", ".webm"),
        (f"{shard}: four", None, b"third", ".mp4"),
    ]


def test_a_video_file_is_its_own_video(tmp_path: Path) -> None:
    (video,) = videos_of(Source(tmp_path / "a.mp4", "a hill"))
    assert (video.name, video.caption, video.path) == (str(tmp_path / "a.mp4"), "a hill", tmp_path / "a.mp4")


@pytest.mark.parametrize("content", [b"no tar at all" * 100, None])
def test_a_damaged_shard_is_named(tmp_path: Path, content: bytes | None) -> None:
    shard = tmp_path / "0.tar"
    write_shard(shard, {"one.mp4": b"x" * 5000})
    shard.write_bytes(shard.read_bytes()[:2000] if content is None else content)
    with pytest.raises(InputError, match=r"0\.tar is no tar file, or is damaged"):
        list(videos_of(Source(shard)))


def test_a_shard_with_a_file_twice_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("one.mp4"), io.BytesIO())
    with pytest.raises(InputError, match=r"0\.tar holds a file of the same name twice"):
        list(videos_of(Source(tmp_path / "0.tar")))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no videos"),
        ({"a.csv": "file,caption\n", "b.jsonl": ""}, "several tables of captions, such as a.csv and b.jsonl"),
        ({"a.csv": "file,caption\n"}, "names no videos"),
        ({"a.csv": "path,caption\na.mp4,x\n"}, "a.csv: its first line is to name the columns, `file` and `caption`"),
        ({"a.csv": "file,caption\na.mp4\n"}, "line 2: every row needs"),
        ({"a.csv": "a.mp4,x\n"}, "its first line is to name the columns"),
        ({"a.csv": "file,caption\na.mp4,A boat, in the rain.\n"}, "line 2 has more fields than columns"),
        ({"a.jsonl": '{"file": "a.mp4", "caption": "x"}\n{oops\n'}, "line 2 is not JSON"),
        ({"a.jsonl": "[1]\n"}, "line 1: every row needs"),
        ({"a.jsonl": '{"file": "a\\u0000.mp4", "caption": "x"}\n'}, "line 1: .* is no name of a file"),
        ({"a.jsonl": '{"file": "a.mp4", "caption": "\\ud800"}\n'}, "its caption is no text"),
        ({"a.csv": f"file,caption\na/{'b' * 300}.mp4,x\n"}, "line 2: .* is no name of a file"),
        ({"a.csv": f'file,caption\na.mp4,"{"x" * 200_000}\n'}, "line 2 is not CSV: field larger than"),
    ],
)
def test_bad_data_is_one_sentence(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        find_sources(tmp_path)


def test_what_is_no_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no data at"):
        find_sources(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="neither a folder nor"):
        find_sources(tmp_path / "a.txt")
