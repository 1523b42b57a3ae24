"""How many tools must be shown to a model, so that those that a request wants are among them.

Requests for calls of tools (`t2agent.bench.real`), among tools of other requests of the same files;
no language model is asked. The words of these tools stand in no card.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from t2agent.bench.real.rows import REAL, Asked, asked, read_cases
from t2agent.dispatch.encoder import Encoder
from t2agent.dispatch.tool_offers import ToolSimilarity
from t2agent.engine.shortlist import shortlist
from t2agent.errors import ConfigError
from t2agent.models.prompt import Prompt


def run(
    data: str = str(REAL),
    requests: int = 200,
    offered: Sequence[int] = (16, 64),
    shown: Sequence[int] = (1, 4, 8, 16),
    seed: int = 0,
) -> dict[str, Any]:
    """For each number of tools on offer, and each that a shortlist shows of them: the share of the
    requests of which all the tools that they want are shown.

    Args:
        data: the folder of the files of requests, tool_calls among them.
        requests: most that are asked.

    Raises:
        ConfigError: the files are missing, they have fewer tools, or a number is unusable.
    """
    if not all(isinstance(n, int) and n > 0 for n in (requests, *offered, *shown)):
        raise ConfigError(
            f"requests is {requests!r}, offered {offered!r}, shown {shown!r}: give whole numbers "
            "of at least 1"
        )
    [case] = read_cases(data, ("tool_calls",))
    rng = random.Random(f"tools {seed}")
    calls = [{str(call["name"]) for call in row["calls"]} for row in case.rows]
    calling = [pair for pair in zip(asked(case), calls, strict=True) if pair[1]]
    drawn = rng.sample(calling, min(requests, len(calling)))
    pool = {_name(tool): tool for one in asked(case) for tool in one.tools}
    if len(pool) < max(offered):
        raise ConfigError(f"{data} has {len(pool)} tools; offer no more than these")
    similarity = ToolSimilarity(Encoder.shared())
    summary = {}
    for many in offered:
        among = [(_among(one, pool, many, rng), wanted) for one, wanted in drawn]
        summary[f"{many} offered"] = {
            f"{most} shown": sum(
                wanted <= set(map(_name, shortlist(prompt, most, similarity).shown))
                for prompt, wanted in among
            )
            / len(among)
            for most in shown
        }
    return {"requests": len(drawn), "summary": summary}


def _among(one: Asked, pool: dict[str, Any], many: int, rng: random.Random) -> Prompt:
    """What is asked, with so many tools: its own, and others."""
    own = {_name(tool) for tool in one.tools}
    others = [tool for name, tool in pool.items() if name not in own]
    return Prompt(
        tuple(map(dict, one.messages)),
        (),
        (*one.tools, *rng.sample(others, max(0, many - len(own)))),
    )


def _name(tool: Any) -> str:
    return str(tool["function"]["name"])
