"""A scorer behind any OpenAI-compatible vision endpoint, such as vLLM's: original and edited image, one answer."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from PIL import Image
from pydantic import Field

from broker.errors import GristmillError
from jobs.edit import images
from jobs.edit.adapters import asking
from jobs.edit.adapters.answer import Unparsable, parse
from jobs.edit.adapters.base import AdapterError, Scored, Scorer, ScoreRequest, checked

SAMPLED = 0.7  # temperature of further tries: at 0 the same answer would come again


class Endpoint(Scorer):
    """Asks `url`/chat/completions for each pair, `concurrency` of them at a time; nothing is loaded here.

    url: the server's base, such as http://host:8000/v1. Its key, if it wants one, stands in an environment variable of
    the worker, which `key_variable` names: one that ends in _API_KEY, since the file that names it also says where the
    key is sent. The key is never logged or recorded.
    json_schema: ask for {"reasoning", "score"} by `response_format`, which vLLM and OpenAI enforce.
    tries: at an answer with a score; what is unparsable in all of them is recorded as such.
    max_pixels: larger images are scaled down before they are sent.
    extra: further fields of the request, such as vLLM's chat_template_kwargs; null takes a field out.
    """

    @checked
    def __init__(
        self,
        *,
        url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")],
        model: Annotated[str, Field(min_length=1, max_length=200)],
        key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*_API_KEY$")] | None = None,
        scale: tuple[float, float] = (0.0, 10.0),
        concurrency: Annotated[int, Field(ge=1, le=256)] = 16,
        timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0,
        retries: Annotated[int, Field(ge=0, le=20)] = 5,
        pause_s: Annotated[float, Field(gt=0, le=60)] = 1.0,
        tries: Annotated[int, Field(ge=1, le=10)] = 3,
        max_tokens: Annotated[int, Field(ge=1)] = 512,
        temperature: Annotated[float, Field(ge=0, le=2)] = 0.0,
        json_schema: bool = False,
        max_pixels: Annotated[int, Field(ge=784)] = 1024 * 1024,
        extra: dict[str, Any] = {},  # noqa: B006 (never changed; pydantic copies)
    ) -> None:
        if not scale[0] < scale[1]:
            raise AdapterError(f"scale={list(scale)}: the first number is to be the lower one")
        self.name, self.scale = f"endpoint {model}", scale
        self._url, self._model, self._variable = url, model, key_variable
        self._concurrency, self._tries, self._max_pixels = concurrency, tries, max_pixels
        self._options: dict[str, Any] = {"timeout_s": timeout_s, "retries": retries, "pause_s": pause_s}
        self._body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
        if json_schema:
            self._body["response_format"] = _format(scale)
        self._extra = extra
        self._chat: Any = None  # chat.Chat

    def load(self) -> None:
        """Ask the server whether it is there. Raises AdapterError for a wrong key, chat.Unreachable."""
        from jobs.edit.adapters.chat import Chat

        key = os.environ.get(self._variable, "").strip() if self._variable else ""
        if self._variable and not (key and key.isascii() and key.isprintable()):
            raise AdapterError(f"endpoint {self._url}: {self._variable} holds no key: set it on this worker")
        chat = Chat(self._url, key, connections=self._concurrency, **self._options)
        try:
            chat.check()
        except GristmillError:
            chat.close()
            raise
        self._chat = chat

    def unload(self) -> None:
        if self._chat is not None:
            self._chat.close()
        self._chat = None

    def score_batch(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        with ThreadPoolExecutor(self._concurrency, "endpoint") as threads:
            return list(threads.map(self._score, requests))

    def _score(self, request: ScoreRequest) -> Scored:
        text = why = ""
        messages = _messages(request, self.scale, self._max_pixels)
        for tried in range(self._tries):
            body = {**self._body, "messages": messages, "seed": request.seed + tried, **self._extra}
            if tried:
                body["temperature"] = max(self._body["temperature"], SAMPLED)
            try:
                reply = self._chat.complete({name: value for name, value in body.items() if value is not None})
            except GristmillError as error:
                return Scored(None, error=str(error))
            text = reply.text
            try:
                answer = parse(text, self.scale, cut=reply.cut)
            except Unparsable as error:
                why = str(error)
            else:
                return Scored(answer.score, answer.parts, answer.words)
        return Scored(None, words=text[:2000], error=f"{why} (in {self._tries} answers)", unparsable=True)


def _messages(request: ScoreRequest, scale: tuple[float, float], max_pixels: int) -> list[dict[str, Any]]:
    system, prompt = asking.texts(request, scale)
    shown = [_data_url(each, max_pixels) for each in (request.original, request.edited)]
    user = [*({"type": "image_url", "image_url": {"url": url}} for url in shown), {"type": "text", "text": prompt}]
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _data_url(image: Image.Image, max_pixels: int) -> str:
    """PNG in base64; both images of a pair are scaled by the same rule, so that they stay comparable."""
    if image.width * image.height > max_pixels:
        factor = (max_pixels / (image.width * image.height)) ** 0.5
        size = max(1, int(image.width * factor)), max(1, int(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return "data:image/png;base64," + base64.b64encode(images.encode(image)).decode()


def _format(scale: tuple[float, float]) -> dict[str, Any]:
    score = {"type": "number", "minimum": scale[0], "maximum": scale[1]}
    schema = {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, "score": score},
        "required": ["reasoning", "score"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "score", "strict": True, "schema": schema}}
