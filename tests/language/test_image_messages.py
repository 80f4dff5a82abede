"""Messages with images: what a server gets, and who refuses them."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paperworks.errors import InputError
from paperworks.language.generation import EndpointGenerator, GenerationSettings, TransformersGenerator, image_message

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
JPEG = b"\xff\xd8\xff" + bytes(8)


class _Echo(BaseHTTPRequestHandler):
    body: dict = {}  # noqa: RUF012 - shared on purpose

    def do_POST(self) -> None:
        type(self).body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = json.dumps({"choices": [{"message": {"content": "seen"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        pass


def test_a_server_gets_images_in_front_of_the_text() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with EndpointGenerator(f"http://127.0.0.1:{server.server_port}/v1", "m") as generator:
            message = image_message("What is it?", [PNG, JPEG])
            assert generator.generate([[message]], GenerationSettings()) == [["seen"]]
    finally:
        server.shutdown()
        server.server_close()
    (sent,) = _Echo.body["messages"]
    assert [part["type"] for part in sent["content"]] == ["image_url", "image_url", "text"]
    assert sent["content"][2]["text"] == "What is it?"
    kind, _, data = sent["content"][1]["image_url"]["url"].partition(";base64,")
    assert (kind, base64.b64decode(data)) == ("data:image/jpeg", JPEG)


def test_images_decide_the_answer_with_the_text() -> None:
    settings = GenerationSettings()
    keys = {settings.key([image_message("Hi", images)], 0) for images in ([PNG], [JPEG], [PNG, JPEG])}
    assert len(keys) == 3
    assert settings.key([image_message("Hi", [])], 0) == settings.key([{"role": "user", "content": "Hi"}], 0)


def test_who_sees_no_images_says_so(small_model, byte_tokenizer) -> None:
    with pytest.raises(InputError, match="sees no images"):
        TransformersGenerator(small_model, byte_tokenizer).generate(
            [[image_message("Hi", [PNG])]], GenerationSettings()
        )
    with pytest.raises(InputError, match="number 1: found bytes of no known format"):
        image_message("Hi", [PNG, b"RIFF0000WAVE"])
