"""P4: deciding on one request, against encoding its text with the sentence encoder alone.

Figure wanted: at most 1.1 times the time. Both are timed in turn on the same text, so that a busy
machine slows both.
"""

from __future__ import annotations

from statistics import median

from t2agent.bench.shapes import clock
from t2agent.dispatch import EmbeddingDispatcher, Request
from t2agent.dispatch.encoder import Encoder
from t2agent.errors import ConfigError
from t2agent.experts.registry import Registry

_TEXTS = (
    "A train covers {n} kilometres in three hours. How far does it go in five?",
    "Write a function that returns the {n} largest numbers of a list.",
    "Which of these is a mammal: trout number {n}, whale or hawk?",
    "Remind me to call the dentist at {n} o'clock.",
)


def run(requests: int = 200, model: str = "t2-nano") -> dict[str, float]:
    """Median milliseconds of both, and their ratio, with the experts of a base model.

    Raises:
        ConfigError: there is no request to time.
    """
    if requests < 1:
        raise ConfigError(f"requests is {requests}; at least 1 must be timed")
    encoder = Encoder()
    dispatcher = EmbeddingDispatcher(Registry(model))

    def decide(text: str) -> float:
        return clock(lambda: dispatcher.dispatch([Request(text)]))

    def encode(text: str) -> float:
        return clock(lambda: encoder.encode([text]))

    for text in _TEXTS:  # what is loaded and fitted on first use
        decide(text)
        encode(text)
    deciding: list[float] = []
    encoding: list[float] = []
    both = ((deciding, decide), (encoding, encode))
    for n in range(requests):
        text = _TEXTS[n % len(_TEXTS)].format(n=n)
        # Who is second finds the caches warm.
        for times, work in both if n // len(_TEXTS) % 2 else both[::-1]:
            times.append(work(text))
    return {
        "requests": requests,
        "dispatch_ms": 1e3 * median(deciding),
        "encode_ms": 1e3 * median(encoding),
        "ratio": median(deciding) / median(encoding),
    }
