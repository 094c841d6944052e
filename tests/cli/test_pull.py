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
def hub(repositories: dict[str, Path], requested: list[str]) -> Iterator[str]:
    """Serve folders as repositories; `requested` collects the files that are fetched."""

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
                        if body:
                            requested.append(f"{name}/{file.name}")
                        headers = {"ETag": f'"{file.name.replace(".", "")}"', "X-Repo-Commit": COMMIT}
                        self.send(file.read_bytes(), headers, body)
                        return
            self.send_error(404)

        def send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
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
    hidden = repositories["tiny/dit"] / "model-00002-of-00002.safetensors"
    content = hidden.read_bytes()
    requested: list[str] = []
    home = tmp_path / "home"
    with hub(repositories, requested) as endpoint:
        hidden.unlink()  # as if the connection broke before it
        first = arlon(endpoint, home, "models", "pull", str(tiny_backbone))
        assert first.returncode == 2
        assert "no whole copy of tiny/dit" in first.stderr
        hidden.write_bytes(content)
        before = list(requested)
        second = arlon(endpoint, home, "models", "pull", str(tiny_backbone))
        assert second.returncode == 0, second.stderr
    assert f"to {home / 'hub'}" in second.stderr
    assert "text_encoder: tiny/t5 is here" in second.stderr
    assert "dit: tiny/dit, 4 files, 0.0 GB" in second.stderr
    assert len(second.stdout.splitlines()) == 3
    assert "tiny/dit/README.md" not in requested
    assert requested[len(before) :] == [f"tiny/dit/{hidden.name}"]
    # and now it needs no server
    third = arlon(endpoint, home, "models", "pull", str(tiny_backbone), "--json")
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout).keys() == {"text_encoder", "video_vae", "dit"}
