"""zoom_image: the conversation's last image, enlarged."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from PIL.Image import Resampling
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


class ZoomImageArguments(ImageArguments):
    """What zoom_image takes."""

    factor: Annotated[int, Field(description="how many times larger")]


def make(*, allow_image_urls: AllowedUrls = False, allow_image_files: bool = False) -> BaseTool:
    """The tool; addresses and paths in messages are read only where they are allowed."""
    policy = ImagePolicy(allow_files=allow_image_files, allow_urls=allow_image_urls)

    def zoom_image(factor: int, messages: object) -> Content:
        image = last_image(messages, policy)
        most = int((MAX_MADE_PIXELS / (image.width * image.height)) ** 0.5)
        if most < 2:
            raise ToolException(
                f"the image has {image.width} x {image.height} pixels and is large already: cut "
                "out a part of it first"
            )
        if not 2 <= factor <= most:
            raise ToolException(f"factor is {shown(factor)}: give a whole number from 2 to {most}")
        size = (image.width * factor, image.height * factor)
        larger = image.resize(size, Resampling.BICUBIC)
        return image_content(f"The image, {size[0]} x {size[1]} pixels.", larger)

    return content_tool(
        "zoom_image", "Enlarges the image.", ZoomImageArguments, zoom_image, artifact=True
    )
