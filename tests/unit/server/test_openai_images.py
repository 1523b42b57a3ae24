"""Images in the messages of a chat."""

from __future__ import annotations

import base64
import io

import pytest
from conftest import KEY
from openai import BadRequestError, OpenAI
from PIL import Image

from t2agent.nano.tasks import TASKS


def data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def asked(address: str, text: str, url: str):
    client = OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    message = {"role": "user", "content": parts}
    return client.chat.completions.create(model="t2-nano", messages=[message])


def test_an_image_is_seen(address):
    examples = TASKS["read"].sample(8, seed=3, split="test")
    right = 0
    for example in examples:
        reply = asked(address, example.prompt, data_url(example.image))
        right += TASKS["read"].reward(reply.choices[0].message.content, example) >= 1.0
    assert right >= 6


@pytest.mark.parametrize("url", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/a.png"])
def test_no_place_is_opened(address, url):
    with pytest.raises(BadRequestError, match="base64") as caught:
        asked(address, "What is this?", url)
    assert caught.value.body["code"] == "image_refused"


def test_what_is_no_image_is_told(address):
    with pytest.raises(BadRequestError, match="not an image"):
        asked(address, "What is this?", "data:image/png;base64,aGVsbG8=")
