"""Which requests offer labels for a text, learned from examples that do.

Of such a request, text and labels may be about anything, and they are most of its words. So what
offers the labels is looked at alone, without them, and compared with what does so in the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t2agent.dispatch.encoder import Vectors
from t2agent.replies.options import offered_options

# Cosine with the likest example. Of real requests for labels, in wordings that were not among the
# examples, all lay above; of word problems that hold a list, one in fifty, of questions one in 150.
_ALIKE = 0.65


@dataclass(frozen=True, slots=True, eq=False)
class LabelRequests:
    """How examples offer labels.

    Attributes:
        asked: vectors of the sentences that offer them, (n, dimension).
        vector: of a text, (dimension,).
    """

    asked: Vectors
    vector: Callable[[str], Vectors]

    @classmethod
    def learned(
        cls,
        examples: Mapping[str, Sequence[str]],
        encoded: Callable[[Sequence[str]], Vectors],
        vector: Callable[[str], Vectors],
    ) -> LabelRequests:
        """From the examples of each label of the dispatcher."""
        texts = (text for own in examples.values() for text in own)
        asked = sorted({one.asked for text in texts for one in offered_options(text)})
        return cls(encoded(asked), vector)

    def offer(self, text: str) -> bool:
        """Whether a request offers labels for a text that it holds."""
        if not len(self.asked):
            return False
        asked = dict.fromkeys(one.asked for one in offered_options(text))
        return any(float(np.max(self.asked @ self.vector(one))) >= _ALIKE for one in asked)
