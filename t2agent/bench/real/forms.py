"""Rows of real data as requests: the same forms for training and for measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WORDINGS: tuple[str, ...] = (
    "{text}\n\nWhich of these labels fits the text: {labels}? Answer with the label only.",
    "Classify the text as one of: {labels}.\n\nText: {text}\nLabel:",
    "Text: {text}\n\nLabels: {labels}\n\nReply with the one label that fits.",
    "Choose one label for this text.\nLabels:\n{list}\n\nText: {text}",
    "What is the category of the following message?\n\n{text}\n\nCategories:\n{list}",
    "Label the text with one of [{labels}]: {text}",
    "Is this {or}?\n\n{text}",
    '"{text}"\n\nPick the best match from: {labels}.',
    "Assign exactly one of these classes to the input. Classes: {labels}. Input: {text}",
    (
        "You sort texts. The possible answers are {or}. Answer with one of them and nothing else."
        "\n\n{text}"
    ),
    "{text}\n\n{or}?",
    "Read this and say which it is: {or}.\n{text}",
    "Given the options {quoted}, classify: {text}",
    "### Text\n{text}\n\n### Options\n{list}\n\n### Answer",
)
"""How people ask for a label; the first is the benchmark's."""


def label_request(text: str, labels: Sequence[str], wording: int = 0) -> str:
    """The request to give a text one of some labels, in one of the `WORDINGS`."""
    return WORDINGS[wording].format(
        text=text,
        labels=", ".join(labels),
        list="\n".join(f"- {label}" for label in labels),
        quoted=", ".join(f'"{label}"' for label in labels),
        **{"or": ", ".join(labels[:-1]) + " or " + labels[-1]},
    )


def field_schema(fields: Mapping[str, bool]) -> dict[str, Any]:
    """The JSON schema of an extraction.

    fields: for each name whether its values are a list; else one string. None must be there.
    """
    text = {"type": "string"}
    return {
        "title": "Fields",
        "type": "object",
        "properties": {
            name: {"type": "array", "items": text} if listed else text
            for name, listed in fields.items()
        },
        "additionalProperties": False,
    }
