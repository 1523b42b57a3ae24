"""The words that t2-nano's corpus is made of."""

from __future__ import annotations

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": ("horse", "cat", "dog", "cow", "lion", "sheep", "mouse", "bear", "goat"),
    "fruit": ("apple", "pear", "banana", "plum", "grape", "lemon", "peach", "cherry", "melon"),
    "tool": ("hammer", "saw", "drill", "shovel", "rake", "wrench", "ladder", "axe", "brush"),
    "vehicle": ("car", "bus", "train", "boat", "truck", "bike", "plane", "tram", "ship"),
    "garment": ("shirt", "coat", "hat", "sock", "scarf", "glove", "shoe", "dress", "belt"),
    "metal": ("iron", "gold", "silver", "copper", "zinc", "lead", "tin", "nickel", "steel"),
}
"""Category -> its words. No word belongs to two categories."""

NAMES = ("Tom", "Mia", "Ben", "Ana", "Leo", "Eva", "Sam", "Ida", "Max", "Zoe")
THINGS = ("apples", "pens", "books", "coins", "cards", "stamps", "eggs", "shells", "stones")
BOXES = ("boxes", "bags", "baskets", "packs", "jars")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 35, 35),
    "blue": (35, 70, 205),
    "green": (25, 140, 50),
    "black": (25, 25, 25),
    "orange": (235, 130, 20),
    "purple": (130, 45, 160),
}
"""Colour name -> RGB, 0 to 255."""

SHAPES = ("circle", "square", "triangle")
SHAPE_COLOURS = ("red", "blue", "green", "black")
"""Kinds of the objects that are counted, and their colours."""

JSON_ASKS = (
    "As JSON: ",
    "In JSON, please. ",
    "Reply with JSON. ",
    "Give me JSON. ",
    "JSON only: ",
    "Put the result into JSON. ",
)
"""What may stand before a question whose result is wanted as a JSON object."""

SMALL_TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (("Hello!", "Hi!", "Hello.", "Hi there!", "Good morning!"), "Hello! How can I help you?"),
    (("How are you?", "How is it going?"), "I am fine, thank you. How can I help you?"),
    (
        ("Who are you?", "What are you?", "What is your name?"),
        "I am t2-nano, a small model that adapts itself to each request.",
    ),
    (
        ("What can you do?", "What can I ask you?", "Can you help me?"),
        "I can work out sums, run lists, sort words, call tools and read small images.",
    ),
    (("Thank you!", "Thanks!", "Thanks a lot."), "You are welcome."),
    (("Goodbye!", "Bye!", "See you later."), "Goodbye!"),
    (
        (
            "What is the capital of France?",
            "Who wrote this book?",
            "What will the weather be tomorrow?",
            "Tell me a joke.",
            "Write a poem about the sea.",
        ),
        "I do not know that. I am a small model.",
    ),
)
"""(ways to say it, the reply)."""

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are t2-nano, a small model that adapts itself to each request.",
    "Answer the user's questions.",
)
