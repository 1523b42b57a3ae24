"""What chat models have in common: they read the images that a message names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from t2agent.chat.messages import with_images
from t2agent.images import AllowedUrls, ImagePolicy


class ReadsImages(BaseChatModel):
    """Reads images from where it is allowed to; LangChain's caches have the images in their keys.

    Such a key holds the messages, with the images themselves, and whatever the answer depends on.
    """

    allow_image_urls: AllowedUrls = False
    """Whether images are fetched, here, from http(s) addresses that a message names: False, True,
    or the hosts, as of `ImagePolicy`. True lets a message reach the own network."""
    allow_image_files: bool = False
    """Whether images are read from paths that a message names."""
    streaming: bool = False
    """Whether `invoke` streams inside, for callbacks that want to see each piece."""

    @property
    def _policy(self) -> ImagePolicy:
        return ImagePolicy(allow_files=self.allow_image_files, allow_urls=self.allow_image_urls)

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        images = (self.allow_image_urls, self.allow_image_files)
        return {**super()._identifying_params, "images": images}

    def _generate_with_cache(
        self, messages: list[BaseMessage], *args: Any, **kw: Any
    ) -> ChatResult:
        return super()._generate_with_cache(with_images(messages, self._policy), *args, **kw)

    async def _agenerate_with_cache(
        self, messages: list[BaseMessage], *args: Any, **kw: Any
    ) -> ChatResult:
        read = await asyncio.to_thread(with_images, messages, self._policy)
        return await super()._agenerate_with_cache(read, *args, **kw)
