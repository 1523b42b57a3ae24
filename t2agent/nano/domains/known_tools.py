"""The tools by name: those that ship with t2agent, common ones, and ones kept unseen.

The first group have the names and parameters of the tools in ``tools/``, and their results are
computed; those of the others are made up. Those of ``UNSEEN`` never stand in the corpus.
"""

from __future__ import annotations

import datetime
import random

from t2agent.nano.domains.toolkit import (
    CITY,
    COLOUR,
    LANGUAGE,
    NAME,
    NUMBER,
    SMALL,
    WORD,
    WORDS,
    Arguments,
    Kind,
    ToolSpec,
    Value,
    compute,
    date,
    digits,
    expression,
    number,
    or_pseudo,
    text,
    time_of_day,
)

_UNITS = {
    "km": ("m", 1000),
    "m": ("cm", 100),
    "cm": ("mm", 10),
    "kg": ("g", 1000),
    "hours": ("minutes", 60),
    "minutes": ("seconds", 60),
    "days": ("hours", 24),
    "weeks": ("days", 7),
}


def _weekday(arguments: Arguments) -> str:
    return f"{datetime.date.fromisoformat(arguments['date']):%A}"


def _days_later(arguments: Arguments) -> str:
    day = datetime.date.fromisoformat(arguments["date"])
    return str(day + datetime.timedelta(days=arguments["days"]))


def _conversion(rng: random.Random) -> dict[str, Value]:
    unit = rng.choice(list(_UNITS))
    return {"value": rng.randint(2, 99), "unit": unit, "to": _UNITS[unit][0]}


SHIPPED: tuple[ToolSpec, ...] = (
    ToolSpec(
        "calculator",
        "Works out an arithmetic expression.",
        {"expression": expression},
        (
            "What is {expression}?",
            "Compute {expression}.",
            "Calculate {expression}.",
            "How much is {expression}?",
            "Work out {expression} with the calculator.",
        ),
        lambda a: compute(a["expression"]),
    ),
    ToolSpec(
        "convert_units",
        "Converts a value from one unit to another.",
        {"value": NUMBER, "unit": WORD, "to": WORD},
        (
            "Convert {value} {unit} to {to}.",
            "How many {to} are {value} {unit}?",
            "What is {value} {unit} in {to}?",
        ),
        lambda a: a["value"] * _UNITS[a["unit"]][1],
        _conversion,
    ),
    ToolSpec(
        "add_days",
        "Gives the date some days after a date.",
        {"date": date, "days": number(1, 60)},
        (
            "Which date is {days} days after {date}?",
            "What is the date {days} days after {date}?",
            "Add {days} days to {date}.",
        ),
        _days_later,
    ),
    ToolSpec(
        "weekday",
        "Tells the day of the week of a date.",
        {"date": date},
        (
            "Which weekday is {date}?",
            "What day of the week is {date}?",
            "On which weekday does {date} fall?",
        ),
        _weekday,
    ),
    ToolSpec(
        "sort_numbers",
        "Sorts numbers, smallest first.",
        {"numbers": digits},
        ("Sort the numbers {numbers}.", "Put {numbers} in order.", "Order {numbers} by size."),
        lambda a: sorted(a["numbers"]),
    ),
    ToolSpec(
        "count_words",
        "Counts the words of a text.",
        {"text": text},
        (
            'How many words has the text "{text}"?',
            'Count the words in "{text}".',
            'How many words are in "{text}"?',
        ),
        lambda a: len(a["text"].split()),
    ),
    ToolSpec(
        "reverse_text",
        "Writes a text backwards.",
        {"text": or_pseudo(WORDS)},
        ('Write "{text}" backwards.', 'Reverse the text "{text}".', 'What is "{text}" reversed?'),
        lambda a: a["text"][::-1],
    ),
    ToolSpec(
        "search_files",
        "Searches the files of the folder for a text.",
        {"query": WORD},
        (
            "Search the files for {query}.",
            "Which file mentions {query}?",
            "Find {query} in my files.",
        ),
    ),
    ToolSpec(
        "crop_image",
        "Cuts a rectangle out of the image.",
        {key: number(0, 64) for key in ("left", "top", "right", "bottom")},
        (
            "Crop the image to {left}, {top}, {right}, {bottom}.",
            "Cut out the rectangle {left}, {top}, {right}, {bottom}.",
        ),
    ),
    ToolSpec(
        "zoom_image",
        "Enlarges the image.",
        {"factor": number(2, 9)},
        ("Zoom the image by {factor}.", "Make the image {factor} times larger."),
    ),
    ToolSpec(
        "measure_colour",
        "Measures the colour of a point of the image.",
        {"x": number(0, 63), "y": number(0, 63)},
        ("What colour is the image at {x}, {y}?", "Measure the colour at {x}, {y}."),
    ),
    ToolSpec(
        "current_time",
        "Tells the time in a city.",
        {"city": CITY},
        ("What time is it in {city}?", "Tell me the time in {city}."),
    ),
    ToolSpec(
        "ask_expert",
        "Asks an expert by name.",
        {"name": WORD, "request": text},
        ('Ask the {name} expert: "{request}"', 'Let the expert {name} answer "{request}"'),
    ),
)


def _simple(tool: str, about: str, asks: tuple[str, ...], /, **parameters: Kind) -> ToolSpec:
    return ToolSpec(tool, about, parameters, asks)


COMMON: tuple[ToolSpec, ...] = (
    _simple(
        "get_weather",
        "Tells the weather in a city.",
        (
            "What is the weather in {city}?",
            "How is the weather in {city}?",
            "Is it warm in {city}?",
        ),
        city=CITY,
    ),
    _simple(
        "send_message",
        "Sends a text to a person.",
        ('Send {to} the message "{text}"', 'Write "{text}" to {to}.'),
        to=NAME,
        text=text,
    ),
    _simple(
        "play_song",
        "Plays a song.",
        ('Play the song "{title}"', "Play {title}.", "I want to hear {title}."),
        title=WORD,
    ),
    _simple(
        "set_alarm",
        "Sets an alarm for a time.",
        ("Wake me at {time}.", "Set an alarm for {time}."),
        time=time_of_day,
    ),
    _simple(
        "set_timer",
        "Starts a timer.",
        ("Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes."),
        minutes=number(1, 90),
    ),
    _simple(
        "translate",
        "Translates a text into a language.",
        ('Translate "{text}" into {language}.', 'What is "{text}" in {language}?'),
        text=text,
        language=LANGUAGE,
    ),
    _simple(
        "find_flight",
        "Finds a flight between two cities.",
        ("Find a flight from {origin} to {destination}.", "I fly from {origin} to {destination}."),
        origin=CITY,
        destination=CITY,
    ),
    _simple(
        "get_price",
        "Tells the price of an item.",
        ("What does the {item} cost?", "How much is a {item}?", "Tell me the price of the {item}."),
        item=WORD,
    ),
    _simple(
        "buy",
        "Buys some pieces of an item.",
        ("Buy {quantity} of the {item}.", "Order {quantity} pieces of {item}."),
        item=WORD,
        quantity=SMALL,
    ),
    _simple(
        "define_word",
        "Explains a word.",
        ("What does {word} mean?", "Define {word}.", "Explain the word {word}."),
        word=WORD,
    ),
    _simple(
        "random_number",
        "Draws a random number.",
        (
            "Draw a number between {low} and {high}.",
            "Give me a random number from {low} to {high}.",
        ),
        low=SMALL,
        high=number(21, 999),
    ),
    _simple(
        "turn_on",
        "Turns a device on.",
        ("Turn on the {device}.", "Switch the {device} on."),
        device=WORD,
    ),
    _simple(
        "set_temperature",
        "Sets the heating.",
        ("Heat the room to {degrees} degrees.", "Set the temperature to {degrees}."),
        degrees=number(10, 30),
    ),
    _simple(
        "find_person",
        "Finds a person's address.",
        ("Where does {name} live?", "Find the address of {name}."),
        name=NAME,
    ),
    _simple(
        "add_event",
        "Puts an event into the calendar.",
        ('Add "{title}" to my calendar on {date}.', 'Note the event "{title}" for {date}.'),
        title=text,
        date=date,
    ),
    _simple(
        "book_table",
        "Books a table in a restaurant.",
        ("Book a table for {people} at {time}.", "A table for {people} people at {time}, please."),
        people=SMALL,
        time=time_of_day,
    ),
    _simple(
        "find_recipe",
        "Finds a recipe with an ingredient.",
        ("What can I cook with {ingredient}?", "Find a recipe with {ingredient}."),
        ingredient=WORD,
    ),
    _simple(
        "check_stock",
        "Tells how many of an item are left.",
        (
            "How many {item} are in stock?",
            "Is there any {item} left?",
            "Check the stock of {item}.",
        ),
        item=WORD,
    ),
    _simple(
        "book_hotel",
        "Books a hotel in a city.",
        ("Book a hotel in {city} for {nights} nights.", "I need {nights} nights in {city}."),
        city=CITY,
        nights=SMALL,
    ),
    _simple(
        "rate_movie",
        "Rates a movie.",
        ("Give {title} {stars} stars.", "Rate the movie {title} with {stars} stars."),
        title=WORD,
        stars=number(1, 5),
    ),
)

UNSEEN: tuple[ToolSpec, ...] = (
    _simple(
        "track_parcel",
        "Tells where a parcel is.",
        ("Where is parcel {number}?", "Track the parcel {number}."),
        number=NUMBER,
    ),
    _simple(
        "water_plants",
        "Waters the plants of a room.",
        ("Water the plants in the {room} for {minutes} minutes.",),
        room=WORD,
        minutes=SMALL,
    ),
    _simple(
        "get_sunrise",
        "Tells when the sun rises in a place.",
        ("When does the sun rise in {place}?", "Tell me the sunrise in {place}."),
        place=CITY,
    ),
    _simple(
        "paint_wall",
        "Paints a wall in a colour.",
        ("Paint the wall {colour}.", "I want the wall in {colour}."),
        colour=COLOUR,
    ),
    _simple(
        "call_person",
        "Calls a person.",
        ("Call {person}.", "Ring {person} for me.", "I want to talk to {person}."),
        person=NAME,
    ),
    _simple(
        "lend_money",
        "Lends money to a person.",
        ("Lend {person} {amount} coins.", "Give {person} a loan of {amount}."),
        person=NAME,
        amount=NUMBER,
    ),
    _simple(
        "feed_pet",
        "Feeds a pet.",
        ("Feed the {pet} {grams} grams.", "Give the {pet} {grams} grams of food."),
        pet=WORD,
        grams=NUMBER,
    ),
    _simple(
        "charge_battery",
        "Charges the battery.",
        ("Charge the battery to {percent} percent.", "Load the battery up to {percent} percent."),
        percent=number(10, 99),
    ),
    _simple(
        "read_book",
        "Reads a book aloud.",
        ('Read me the book "{book}"', "Read {book} aloud."),
        book=text,
    ),
    _simple(
        "order_taxi",
        "Orders a taxi to a place.",
        ("I need a taxi to {place} at {hour}.", "Send a taxi to {place} at {hour}."),
        place=CITY,
        hour=time_of_day,
    ),
)
