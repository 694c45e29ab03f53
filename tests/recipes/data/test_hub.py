"""The Hugging Face hub with a network, without one, and with answers that are errors."""

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import datasets
import pytest

from recipes.data import hub
from recipes.data.images import files
from recipes.errors import ConfigError
from tests.recipes.data.images.formats.test_tables import parquet
from tests.recipes.data.images.image_files import one_line, value_of


@pytest.fixture
def online(monkeypatch):
    """As if the user had not asked to stay offline; the hub's address refuses connections at once."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.usefixtures("online")
def test_no_network_and_no_copy(monkeypatch, offline):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ConfigError, match="the hub cannot be reached and the cache has no copy") as error:
        files.load(hub="somebody/photos")
    assert "data.hub=somebody/photos" in one_line(error)
    assert "data.path" in one_line(error)
    assert offline == datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("online")
def test_no_network_but_a_copy_in_the_cache(tmp_path, cache):
    # What an earlier download would have left, made from local files and put under the hub's name.
    source = parquet(tmp_path).rename(tmp_path / "photos")
    datasets.load_dataset(str(source), cache_dir=str(tmp_path / "made"))
    (made,) = (tmp_path / "made" / "photos").iterdir()
    home = cache / "somebody___photos" / "default"
    shutil.copytree(made, home)
    (information,) = home.rglob("dataset_info.json")
    information.write_text(json.dumps(json.loads(information.read_text()) | {"config_name": "default"}))
    splits = files.load(hub="somebody/photos", val_size=4)
    assert len(splits["test"]) == 6
    assert value_of(splits["test"][1][0]) == pytest.approx(100, abs=1)


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.usefixtures("online")
def test_whether_the_hub_is_reachable():
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        assert hub.reachable(f"http://{address}/")
        assert hub.reachable(f"http://{address}/missing")
        assert hub.reachable(f"https://{address}/")  # certificates are left to the hub's library
        server.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not hub.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)
    assert not hub.reachable("http://127.0.0.1:9")


def test_what_the_hub_answers_is_passed_on_in_one_line(monkeypatch):
    def refuse(name, subset):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' is a gated dataset on the Hub.\nLong story.")

    monkeypatch.setattr(hub, "reachable", lambda address: True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ConfigError, match=r"is a gated dataset on the Hub\.\): log in with `hf auth login`") as error:
        files.load(hub="ILSVRC/imagenet-1k")
    one_line(error)


def test_a_folder_given_as_a_name(folders, monkeypatch):
    monkeypatch.chdir(folders.parent)
    with pytest.raises(ConfigError, match=r"set data\.path=photos") as error:
        files.load(hub="photos")
    one_line(error)
