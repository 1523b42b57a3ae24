"""crop_image: a part of the conversation's last image."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.images import AllowedUrls, ImagePolicy
from t2agent.toolbox.content import content_tool, shown
from t2agent.toolbox.images import (
    MAX_MADE_PIXELS,
    Content,
    ImageArguments,
    image_content,
    last_image,
)


class CropImageArguments(ImageArguments):
    """What crop_image takes, in pixels from the upper left corner."""

    left: Annotated[int, Field(description="first column")]
    top: Annotated[int, Field(description="first row")]
    right: Annotated[int, Field(description="column after the last")]
    bottom: Annotated[int, Field(description="row after the last")]


def make(*, allow_image_urls: AllowedUrls = False, allow_image_files: bool = False) -> BaseTool:
    """The tool; addresses and paths in messages are read only where they are allowed."""
    policy = ImagePolicy(allow_files=allow_image_files, allow_urls=allow_image_urls)

    def crop_image(left: int, top: int, right: int, bottom: int, messages: object) -> Content:
        image = last_image(messages, policy)
        width, height = image.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ToolException(
                f"the image is {width} x {height} pixels, and the rectangle from {shown(left)}, "
                f"{shown(top)} to {shown(right)}, {shown(bottom)} is not inside: give left < right "
                f"<= {width} and top < bottom <= {height}, from 0"
            )
        size = f"{right - left} x {bottom - top}"
        if (right - left) * (bottom - top) > MAX_MADE_PIXELS:
            raise ToolException(
                f"the rectangle has {size} pixels, and {MAX_MADE_PIXELS:,} are the most: cut out "
                "a smaller one"
            )
        return image_content(
            f"The part of the image, {size} pixels.", image.crop((left, top, right, bottom))
        )

    return content_tool(
        "crop_image",
        "Cuts a rectangle out of the image.",
        CropImageArguments,
        crop_image,
        artifact=True,
    )
