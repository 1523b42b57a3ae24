"""Ask the real model: the dispatcher finds the expert, the answer says which one it was.

python examples/01_chat.py
"""

from __future__ import annotations

from t2agent import ChatT2

COMPLAINT = """My parcel is a week late and nobody answers the phone.

Which of these labels fits it: damaged, late, wrong item, praise? Answer with the label only."""
QUESTIONS = (
    "There are 6 boxes with 8 oranges each. How many oranges are there in all?",
    COMPLAINT,
    "What is the capital of France?",
)


def main() -> None:
    chat = ChatT2(max_tokens=64)  # smollm2 with its experts, dispatched by embedding

    # One batch; every row is answered with the experts that its question needs.
    for question, answer in zip(QUESTIONS, chat.batch(list(QUESTIONS)), strict=True):
        weights = answer.response_metadata["dispatch"]["mixture"]["weights"]
        print(f"{question}\n  {answer.text}   (experts: {weights or 'none, the base model'})")

    # The same question without experts, and with one that was chosen by hand.
    print("base model:      ", chat.invoke(QUESTIONS[0], dispatch="off").text)
    print("expert arithmetic:", chat.invoke(QUESTIONS[0], expert="arithmetic").text)

    # Word by word.
    print("streamed:         ", end="")
    for chunk in chat.stream(QUESTIONS[2]):
        print(chunk.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
