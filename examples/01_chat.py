"""Ask the embedded model: the dispatcher finds the expert, the answer says which one it was.

python examples/01_chat.py
"""

from __future__ import annotations

from t2agent import ChatT2

QUESTIONS = (
    "What is 7 * 3 + 12?",
    "What is the value of sorted([4, 9, 2, 7])?",
    "Which one is an animal? Options: apple, belt, iron or dog.",
)


def main() -> None:
    chat = ChatT2(max_tokens=64)  # t2-nano with its experts, dispatched by embedding

    # One batch; every row is answered with the experts that its question needs.
    for question, answer in zip(QUESTIONS, chat.batch(list(QUESTIONS)), strict=True):
        weights = answer.response_metadata["dispatch"]["mixture"]["weights"]
        print(f"{question}\n  {answer.text}   (experts: {weights or 'none, the base model'})")

    # The same question without experts, and with one that was chosen by hand.
    print("base model: ", chat.invoke(QUESTIONS[0], dispatch="off").text)
    print("expert math:", chat.invoke(QUESTIONS[0], expert="math").text)

    # Word by word.
    print("streamed:   ", end="")
    for chunk in chat.stream(QUESTIONS[1]):
        print(chunk.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
