"""The expert `label`: a text gets one of the labels that the request offers."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from recipe import Data, Recipe, Row, train

from t2agent.bench.real.forms import WORDINGS, label_request

FEELINGS = {  # other names for GoEmotions' classes, so that the names are read and not learnt
    "anger": ("anger", "angry", "mad"),
    "disgust": ("disgust", "disgusted"),
    "fear": ("fear", "afraid", "scared"),
    "joy": ("joy", "happy", "happiness"),
    "neutral": ("neutral", "no emotion"),
    "sadness": ("sadness", "sad", "unhappy"),
    "surprise": ("surprise", "surprised"),
    "love": ("love", "affection"),
}
SENTIMENT = {"joy": 0, "anger": 1, "disgust": 1, "sadness": 1, "fear": 1, "neutral": 2}
SENTIMENTS = (
    ("positive", "negative", "neutral"),
    ("good", "bad", "mixed"),
    ("favourable", "unfavourable", "neither"),
)
SPAM = (
    ("spam", "normal"),
    ("spam", "not spam"),
    ("spam", "ham"),
    ("junk", "legitimate"),
    ("advertisement", "personal message"),
)
WORDS = {  # what people say that they feel
    "anger": "angry furious irritated annoyed mad outraged resentful bitter frustrated enraged",
    "disgust": "disgusted revolted sickened repulsed nauseated grossed-out appalled",
    "fear": "afraid scared terrified nervous anxious worried frightened panicky uneasy alarmed",
    "joy": "happy delighted thrilled cheerful content satisfied glad excited joyful calm proud",
    "sadness": "sad lonely hopeless miserable gloomy empty heartbroken worthless depressed tearful",
    "surprise": "surprised amazed astonished stunned shocked startled speechless",
    "love": "loving tender caring affectionate fond devoted adoring",
}
SAID = (
    "i feel {} {}",
    "I am so {} {}!",
    "feeling {} {}",
    "im feeling a bit {} {}",
    "She was {} {}.",
    "We were all {} {}",
)
ABOUT = (
    "about the news",
    "today",
    "because of what he said",
    "after the party last night",
    "and i cannot say why",
    "about my new job",
    "when i think of my sister",
    "since the exam was moved",
    "about all of this",
    "tonight",
)
PLAIN = (5, 7, 9, 10)  # the wordings that suit a question with its answers
ASKED = {
    "who|whose": ("person", "human", "who"),
    "where|what city|what country": ("place", "location", "where"),
    "when|what time|how long|what year": ("time", "date", "when"),
    "how many|how much|how far": ("number", "quantity", "amount"),
    "why": ("reason", "explanation", "cause"),
    "what does|what is the meaning|define": ("meaning", "definition", "description"),
}
TOPICS = {
    "Restaurants": "restaurants",
    "Movies": "films",
    "Media": "films",
    "Music": "music",
    "Weather": "weather",
    "Travel": "travel",
    "Flights": "flights",
    "Buses": "bus travel",
    "Hotels": "hotels",
    "Homes": "housing",
    "Events": "events",
    "RentalCars": "car rental",
    "Banks": "banking",
    "Calendar": "calendar",
}
CALLED = {  # other names for topics, so that the names are read and not learnt
    "restaurants": ("restaurants", "dining", "food"),
    "films": ("films", "movies", "cinema", "entertainment"),
    "music": ("music", "songs", "arts/music"),
    "weather": ("weather", "forecast"),
    "travel": ("travel", "tourism", "places"),
    "flights": ("flights", "air travel", "airlines"),
    "bus travel": ("bus travel", "buses", "public transport"),
    "hotels": ("hotels", "accommodation"),
    "housing": ("housing", "real estate", "homes"),
    "events": ("events", "concerts and matches", "sports/events"),
    "car rental": ("car rental", "cars"),
    "banking": ("banking", "money", "business", "finance"),
    "calendar": ("calendar", "appointments"),
    "mathematics": ("mathematics", "math", "word problem"),
    "programming": ("programming", "software", "computers", "tech"),
    "science": ("science", "nature", "sci", "science/nature"),
    "law": ("law", "legal", "contracts"),
    "eating out": ("eating out", "restaurant review"),
}


def rows(data: Data, rng: random.Random) -> Iterator[Row]:
    """Requests for labels, balanced over the kinds of labels."""
    kinds = (
        (_emotions, 1300),
        (_said, 600),
        (_sentiment, 2200),
        (_spam, 700),
        (_intents, 2000),
        (_topics, 1000),
        (_questions, 400),
        (_answers, 400),
    )
    for kind, share in kinds:
        made = list(kind(data, rng))
        rng.shuffle(made)
        for text, label, labels in made[:share]:
            offered = list(labels)
            rng.shuffle(offered)
            style = (
                rng.choice((str, str, str.title, str.upper, str.lower))
                if rng.random() < 0.5
                else str
            )
            offered, label = [style(one) for one in offered], style(label)
            # The benchmark's wording is no more frequent than others.
            wordings = PLAIN if kind is _answers else range(len(WORDINGS))
            request = label_request(text, offered, rng.choice(wordings))
            yield {"prompt": request, "answer": label, "about": kind.__name__.strip("_")}


def _emotions(data: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    by_label = _balanced([r for r in data["labels_train"] if r["source"] == "goemotions"], rng, 260)
    for row in by_label:
        # Where nothing is the safe answer, the others are learnt.
        safe = {"neutral"} if rng.random() < 0.6 else set()
        others = [name for name in FEELINGS if name not in {row["label"], "love", *safe}]
        rng.shuffle(others)
        chosen = [row["label"], *others[: rng.randint(2, 6)]]
        names = {name: rng.choice(FEELINGS[name]) for name in chosen}
        yield row["text"], names[row["label"]], list(names.values())


def _said(_: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    """What people say that they feel, in so many words: of real posts, two in three are unclear."""
    for _ in range(600):
        feeling = rng.choice(list(WORDS))
        text = rng.choice(SAID).format(rng.choice(WORDS[feeling].split()), rng.choice(ABOUT))
        others = rng.sample([name for name in WORDS if name != feeling], rng.randint(1, 6))
        names = [rng.choice(FEELINGS[name]) for name in (feeling, *others)]
        yield text, names[0], names


def _sentiment(data: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    found = [
        r for r in data["labels_train"] if r["source"] == "goemotions" and r["label"] in SENTIMENT
    ]
    for row in found:
        which, names = SENTIMENT[row["label"]], rng.choice(SENTIMENTS)
        if (which == 2 and rng.random() < 0.7) or (which == 0 and rng.random() < 0.4):
            continue
        labels = names if which == 2 or rng.random() < 0.2 else names[:2]
        yield row["text"], names[which], list(labels)


def _spam(data: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    found = [r for r in data["labels_train"] if r["source"] == "sms_spam"]
    spam = [r for r in found if r["label"] == "spam"]
    normal = [r for r in found if r["label"] != "spam"]
    for row in [*spam, *spam, *normal[: 2 * len(spam)]]:
        names = rng.choice(SPAM)
        yield row["text"], names[row["label"] != "spam"], list(names)


def _intents(data: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    intents = data["clinc150"]["train"]
    names = sorted({label for _, label in intents})
    for text, label in rng.sample(intents, 3200):
        others = rng.sample(
            [name for name in names if name != label], rng.choice((1, 2, 3, 4, 5, 7, 9))
        )
        style = rng.choice(
            (str, lambda name: name.replace("_", " "), lambda name: name.replace("_", " "))
        )
        yield text, style(label), [style(name) for name in (label, *others)]


def _topics(data: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    texts: dict[str, list[str]] = defaultdict(list)
    for row in data["tool_answers_train"]:
        topic = TOPICS.get(row["service"].rsplit("_", 1)[0])
        if topic and len(row["messages"][0]["content"]) > 40:
            texts[topic].append(row["messages"][0]["content"])
    texts["mathematics"] = [row["prompt"] for row in data["gsm8k_train"][:120]]
    texts["programming"] = [row["description"] for row in data["mbpp_train"][:120]]
    texts["science"] = [
        row["question"] for row in data["choice_train"] if row["source"] == "arc_easy"
    ][:120]
    texts["law"] = [
        row["text"]
        for row in data["extract_train"]
        if row["source"] == "sec_ner" and len(row["text"]) > 60
    ][:120]
    texts["eating out"] = [row["text"] for row in data["extract_train"] if row["source"] == "e2e"][
        :60
    ]
    for topic, found in texts.items():
        for text in rng.sample(found, min(60, len(found))):
            close = {"restaurants": {"eating out"}, "eating out": {"restaurants"}}.get(topic, set())
            others = [name for name in texts if name != topic and name not in close]
            chosen = [topic, *rng.sample(others, rng.randint(1, 5))]
            labels = [rng.choice(CALLED[name]) for name in chosen]
            yield text, labels[0], labels


def _answers(data: Data, _: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    for row in data["choice_train"]:
        if all(len(choice.split()) <= 4 for choice in row["choices"]):
            yield row["question"], row["choices"][row["answer_index"]], row["choices"]


def _questions(data: Data, rng: random.Random) -> Iterator[tuple[str, str, list[str]]]:
    """What a question asks for, by its first word."""
    kinds = [(re.compile(rf"({words})\b", re.IGNORECASE), own) for words, own in ASKED.items()]
    texts = [row["question"] for row in data["choice_train"]] + [
        text for text, _ in data["clinc150"]["train"]
    ]
    texts += [row["prompt"].rsplit(". ", 1)[-1] for row in data["gsm8k_train"]]
    for text in texts:
        found = [names for words, names in kinds if words.match(text)]
        if len(found) == 1:
            label = rng.choice(found[0])
            others = [rng.choice(names) for names in ASKED.values() if names is not found[0]]
            yield text, label, [label, *rng.sample(others, rng.randint(1, len(others)))]


def _balanced(found: list[Row], rng: random.Random, most: int) -> list[Row]:
    by_label: dict[Any, list[Row]] = defaultdict(list)
    for row in found:
        by_label[row["label"]].append(row)
    return [
        row
        for label in sorted(by_label)
        for row in rng.sample(by_label[label], min(most, len(by_label[label])))
    ]


RECIPE = Recipe(
    name="label",
    description="Gives a text one of the labels that the request offers, and nothing else.",
    rows=rows,
    reward="exact",
    sources={
        "GoEmotions": "Apache-2.0",
        "SMS Spam Collection": "CC BY 4.0",
        "CLINC150": "CC BY 3.0",
        "ARC-Easy": "CC BY-SA 4.0",
        "OpenBookQA": "Apache-2.0",
        "CommonsenseQA": "MIT",
        "Schema-Guided Dialogue": "CC BY-SA 4.0",
        "GSM8K": "MIT",
        "MBPP": "CC BY 4.0",
        "SEC filings": "CC BY 3.0",
        "E2E": "CC BY-SA 4.0",
    },
    shown=lambda row: row["about"] in ("intents", "topics", "answers"),
    steps=240,
    settings={
        "directions": 192,
        "prompts": 32,
        "warmup": 5,
        "validate_every": 60,
    },
)

if __name__ == "__main__":
    train(RECIPE)
