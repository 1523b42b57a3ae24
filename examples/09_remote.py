"""Experts that another machine serves, one LoRA each; the dispatcher runs here.

    python examples/09_remote.py

The endpoint is $T2AGENT_REMOTE_URL: vLLM, or anything else that speaks OpenAI's chat completions.
Without one, the requests are only dispatched. docs/SERVING.md tells how to start one. The extra
`remote` is needed: pip install 't2agent[remote]'.
"""

from __future__ import annotations

import os
import sys

from t2agent import ChatT2Remote, Registry
from t2agent.dispatch import CLASSIFIER

REQUESTS = [
    "Tom has 7 bags with 3 apples each and finds 12 more. How many apples?",
    "What is the value of sorted([4, 9, 2, 7])?",
    "Tell me about the weather in Rome",
]


def main(base: str = "t2-nano") -> None:
    """Dispatch the requests, and have them answered where there is an endpoint."""
    if not os.environ.get("T2AGENT_REMOTE_URL"):
        names = [name for name in Registry(base).names("text") if name != CLASSIFIER]
        loras = " ".join(f"{name}=served/{name}" for name in names)
        print(
            "T2AGENT_REMOTE_URL is not set, so nobody answers. Start vLLM as docs/SERVING.md tells:"
        )
        print(f"  vllm serve BASE --enable-lora --lora-modules {loras}")
        chat = ChatT2Remote(base, served={name: name for name in names})
        for request in REQUESTS:
            route = chat.route(request)
            print(f"{request}\n  would go to {route.model}: {dict(route.decision.scores)}")
        return
    chat = ChatT2Remote(base)
    for request in REQUESTS:
        print(f"{request}\n  ", end="")
        last = None
        for chunk in chat.stream(request):
            print(chunk.text, end="", flush=True)
            last = chunk
        assert last is not None
        print(f"\n  by {last.response_metadata['served']['model']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
