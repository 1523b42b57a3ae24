"""Requests that have an expert's words and want something else: what the expert is *not* for.

A dispatcher that knows an expert by its example requests alone takes what they are about for what
they ask. Told what is near and not meant, its gate learns the difference (`t2agent.dispatch.near`).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import cycle

_ABOUT = """
Who came up with {word} first?|When was {word} first heard of?|What is the story behind {word}?
Compose a song on {word}.|Write me a short poem, theme: {word}.|Tell us a tale where {word} matters.
How do you say "{word}" in Spanish?|Put "{word}" into German, please.|What is the French for {word}?
Can you suggest a good book on {word}?|Where would I buy {word}?|What does {word} usually cost?
Is {word} good for you?|Do you like {word}?|What is your opinion of {word}?
Why are so many people fond of {word}?|Why was {word} banned there?|Isn't {word} boring?
What does "{word}" mean?|Define {word} in one sentence.|How is {word} spelled?
Make a joke with {word} in it.|Think of a slogan for {word}.
Find a headline for an article on {word}.
How could I learn more about {word}?|How do I explain {word} to a small child?
Who is an expert on {word} in our town?|Which famous people had to do with {word}?
Draft a letter of complaint about {word}.|Write a diary entry that mentions {word}.
I am worried about {word}, can you calm me?|My friend talks of {word} all the time, help!
Which films deal with {word}?|Is there a museum of {word}?|What could replace {word} in the future?
Give me a few facts on {word}.|What goes well with {word}?|Where does {word} come from?
How has {word} changed over the centuries?|What are the dangers of {word}?
Should we ban {word} from schools?|Name something similar to {word}.|What rhymes with {word}?
What do experts dislike about {word}?|How is {word} made?|How do I look after {word}?
Describe {word} without naming it.|Which country is known for {word}?|What can go wrong with {word}?
Plan a party around {word}.|Is it legal to use {word} everywhere?|Who likes {word} the most?
"""
_PAIRED = """
Is {word} better than {other}, in your view?|What have {word} and {other} in common?
Why does {word} remind people of {other}?|I like {word} more than {other}, am I alone?
Write a dialogue between {word} and {other}.|Would you give a friend {word} or {other}?
"""
_IMAGES = """
Who made this image?|Make the {word} in the image larger.|Which painter made the {word}?
Repaint the {word} in other colours, please.|In which colours is the {word} in the image?
What might the {word} in the picture stand for?|Do you find the {word} pretty?
Does the {word} suit the rest of the picture?|Write a poem inspired by the {word} in this picture.
In which style is the {word} drawn?|May I publish this picture of the {word}?
How can I draw such a {word} myself?|Why did somebody draw this {word}?
What would you change about the {word} in the image?|Erase the {word} from the image.
Invent a caption that mentions the {word}.|Is the {word} in the picture misleading?
Which program can draw a {word} like this?|What came to your mind when you saw the {word}?
When was this picture of the {word} made?|Is this picture suitable for a poster?
Describe the atmosphere of the picture.|Is the image blurred?|What is in the background?
Turn the picture upside down.|Which animals are to be seen?|Who are the people in the image?
Where was this picture taken?|Is it a photo or a drawing?|What kind of frame would suit it?
What lies next to the {word} in the image?|What does the {word} in the picture cover?
What is the {word} in the picture made of?|How old may the {word} in the image be?
Cut the {word} out of the picture.|Replace the {word} in the image by a tree.
Draw another {word} into the picture.|Turn the {word} in the image round.
Darken the {word} in the image a little.|Has somebody painted over the {word}?
Does the {word} in the image bring bad luck?|What would a priest say about the {word}?
Is the {word} in the picture well drawn?|Why does the {word} in the image look so odd?
How many people own such a picture of the {word}?|What is this picture of the {word} worth?
Who owns the {word} in the picture?|To whom was the {word} in the image shown?
What is the {word} in the picture called in Spanish?|Tell a tale about the {word} in the image.
Is the {word} in the image genuine?|Print the picture of the {word} on a cup.
Where could I hang the picture of the {word}?|Does the {word} in the picture make you sad?
Which camera took the {word} in the image?|What is the message of the {word} in this picture?
"""
_WORD = re.compile(r"[^\W\d_]{3,}")
_WORDS = 16  # that an expert is known by
_COUNT = 128


def near_misses(
    examples: Sequence[str],
    n: int = _COUNT,
    *,
    words: Sequence[str] | None = None,
    images: bool = False,
    seed: int = 0,
) -> list[str]:
    """At most ``n`` requests that have the words of an expert and want something else.

    Args:
        examples: what the expert is for.
        n: the most.
        words: those that it is known by; None for those that its examples have most often.
        images: whether the examples come with images; three of four requests then ask about one.
        seed: of the draw.
    """
    words = _telling(examples) if words is None else list(words)
    if not words:
        return []
    draw = random.Random(seed)
    plain, seen = cycle([*_frames(_ABOUT), *_frames(_PAIRED)]), cycle(_frames(_IMAGES))
    found: dict[str, None] = {}
    for turn in range(4 * n):
        frame = next(seen if images and turn % 4 else plain)
        word, other = (draw.sample(words, 2) * 2)[:2] if len(words) > 1 else (words[0], "life")
        found.setdefault(frame.format(word=word, other=other))
        if len(found) == n:
            break
    return list(found)


def _frames(text: str) -> list[str]:
    return text.strip().replace("\n", "|").split("|")


def _telling(examples: Sequence[str]) -> list[str]:
    """The words that most of these examples have, but for those that any text has."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts = Counter(word for text in examples for word in {w.lower() for w in _WORD.findall(text)})
    telling = [(-n, word) for word, n in counts.items() if word not in ENGLISH_STOP_WORDS]
    return sorted(word for _, word in sorted(telling)[:_WORDS])
