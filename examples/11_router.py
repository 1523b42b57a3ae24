"""LangChain's model router: a decision model chooses among experts of one base model.

    python examples/11_router.py

The routes of `ModelRouterMiddleware` (langchain 1.5) are chat models as others are. Here they share
one loaded base model, and so does the decision model that chooses: a route costs no memory.
"""

from __future__ import annotations

import warnings

from langchain.agents import create_agent
from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware
from langchain_core.decisions import Noul

from t2agent import ChatT2, T2DecisionModel, T2Model
from t2agent.models.installed import is_installed

QUESTIONS = (
    "There are 6 boxes with 8 oranges each. How many oranges are there in all?",
    "Hello, how are you today?",
)


def main() -> None:
    if not is_installed("smollm2"):
        print("This router needs the real model; get it with: t2agent models add smollm2")
        return
    base = T2Model.from_pretrained("smollm2")
    decide = T2DecisionModel(base)
    plain = ChatT2(base, dispatch="off", max_tokens=64)

    warnings.filterwarnings("ignore", message=".*ModelRouterMiddleware.*beta")
    router = ModelRouterMiddleware(
        instructions="What kind of request is this?",
        choices={
            "arithmetic": ModelChoice(
                ChatT2(base, expert="arithmetic", max_tokens=64), "numbers to calculate with"
            ),
            "conversation": ModelChoice(plain, "anything else"),
        },
        classifier=decide,
    )
    agent = create_agent(plain, middleware=[router])
    for question in QUESTIONS:
        state = agent.invoke({"messages": [("user", question)]})
        route, reply = state["model_route"], state["messages"][-1]
        weights = reply.response_metadata["dispatch"]["mixture"]["weights"]
        print(f"user: {question}")
        print(f"  route {route.choice} ({route.probabilities[route.choice]:.2f})")
        print(f"  [{', '.join(weights) or 'base model'}]: {reply.text}")

    # The decision model by itself: what is there to do for an agent, besides routing?
    prize = "WINNER! You have won a FREE prize, call 0900 123 now to claim it."
    asked = {"spam": Noul(instructions="Is this message spam?")}
    answer = decide.invoke({"state": prize, "questions": asked}).nouls["spam"]
    print(f"probability of spam: {answer.noul:.2f}")


if __name__ == "__main__":
    main()
