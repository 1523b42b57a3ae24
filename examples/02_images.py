"""Show t2-nano, the embedded model with eyes, an image: a drawn number, or a file of your own.

python examples/02_images.py [IMAGE]
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

from langchain_core.messages import HumanMessage

from t2agent import ChatT2
from t2agent.nano.tasks import TASKS


def main() -> None:
    chat = ChatT2("t2-nano", max_tokens=32)
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        if not path.is_file():
            sys.exit(f"there is no file {path}")
        data, wanted = path.read_bytes(), "see for yourself"
        kind = "image/jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "image/png"
    else:
        # A picture as t2-nano knows them: 64 x 64 pixels with a printed number.
        example = TASKS["read"].sample(1, seed=3, split="test")[0]
        assert example.image is not None
        png = io.BytesIO()
        example.image.save(png, "PNG")
        data, wanted, kind = png.getvalue(), example.answer, "image/png"

    # The content blocks of LangChain; OpenAI's image_url with a data URL works as well.
    message = HumanMessage(
        [
            {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": kind},
            {"type": "text", "text": "What number is in the image?"},
        ]
    )
    answer = chat.invoke([message])
    dispatch = answer.response_metadata["dispatch"]
    print(f"answer: {answer.text}   (wanted: {wanted})")
    print(f"experts: {dispatch['mixture']['weights'] or 'none, the base model'}")
    print(f"base model: {chat.invoke([message], dispatch='off').text}")


if __name__ == "__main__":
    main()
