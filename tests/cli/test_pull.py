"""`arlon models pull` against a small server that answers as the Hub does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlparse

import pytest

COMMIT = "0" * 40
CLI = "from arlon_cli.cli.app import main; main()"


@contextmanager
def hub(repositories: dict[str, Path], requested: list[str], broken: set[str]) -> Iterator[str]:
    """Serve folders as repositories; `requested` collects what is fetched. Of files in `broken` only half comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlparse(self.path).path
            for name, folder in repositories.items():
                files = sorted(file for file in folder.iterdir() if file.is_file())
                if path.startswith(f"/api/models/{name}/tree/"):
                    tree = [{"type": "file", "oid": "1", "path": f.name, "size": f.stat().st_size} for f in files]
                    self.send(json.dumps(tree).encode(), {}, body)
                    return
                if path.startswith(f"/api/models/{name}"):
                    siblings = [{"rfilename": f.name, "size": f.stat().st_size, "blobId": "1"} for f in files]
                    facts = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
                    self.send(json.dumps(facts).encode(), {}, body)
                    return
                if path.startswith(f"/{name}/resolve/"):
                    file = folder / path.split("/", 5)[5]
                    if file.is_file():
                        headers = {"ETag": f'"{file.name.replace(".", "")}"', "X-Repo-Commit": COMMIT}
                        self.send_file(file, headers, body)
                        return
            self.send_error(404)

        def send_file(self, file: Path, headers: dict[str, str], body: bool) -> None:
            content, status = file.read_bytes(), 200
            if part := self.headers.get("Range"):
                start = int(part.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                content, status = content[start:], 206
            if body:
                requested.append(f"{file.name}{' from ' + str(start) if part else ''}")
                if file.name in broken and part:
                    self.send_error(503)
                    return
                if file.name in broken:
                    headers["Content-Length"] = str(len(content))
                    content = content[: len(content) // 2]
            self.send(content, headers, body, status)

        def send(self, content: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def arlon(endpoint: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", CLI, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_pull_says_what_it_fetches_and_goes_on_where_it_stopped(
    tiny_backbone: Path, offline_hub: Path, tmp_path: Path
) -> None:
    repositories = {
        f"tiny/{name}": offline_hub / f"models--tiny--{name}" / "snapshots" / COMMIT for name in ("t5", "vae", "dit")
    }
    (repositories["tiny/dit"] / "README.md").write_text("not to be fetched")
    shard = "model-00002-of-00002.safetensors"
    requested: list[str] = []
    broken = {shard}
    home = tmp_path / "home"
    with hub(repositories, requested, broken) as endpoint:
        first = arlon(endpoint, home, "models", "pull", str(tiny_backbone))
        assert first.returncode == 1, first.stderr
        assert "Error: tiny/dit could not be fetched:" in first.stderr
        broken.clear()
        before = list(requested)
        second = arlon(endpoint, home, "models", "pull", str(tiny_backbone))
        assert second.returncode == 0, second.stderr
    assert f"to {home / 'hub'}" in second.stderr
    assert "text_encoder: tiny/t5 is here" in second.stderr
    assert "dit: tiny/dit, 4 files, 0.0 GB" in second.stderr
    assert len(second.stdout.splitlines()) == 3
    assert "README.md" not in requested
    assert requested[len(before) :] == [shard]  # from its start, since huggingface_hub keeps pieces of 10 MB
    # and now it needs no server
    third = arlon(endpoint, home, "models", "pull", str(tiny_backbone), "--json")
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout).keys() == {"text_encoder", "video_vae", "dit"}
