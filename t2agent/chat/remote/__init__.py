"""Experts that an OpenAI-compatible endpoint serves, chosen here for each request.

The endpoint is vLLM with one LoRA an expert, or any other that tells models apart by name. The
dispatcher runs here, on the experts' cards; the base model is not loaded.
"""

from __future__ import annotations

from t2agent.chat.remote.chat_model import ChatT2Remote
from t2agent.chat.remote.routing import Route

__all__ = ["ChatT2Remote", "Route"]
