"""What assistants are asked for: money, days, messages, music, travel, the home; as patterns.

The tools' texts, the values and the words around them are chosen by chance (`everyday`), and names
are mostly ones that nobody has, so that a value can only be read.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from renaming import invented

CITIES = (
    *("Berlin", "Madrid", "Rome", "Vienna", "Athens", "Dublin", "Bergen", "Quito", "Bogota"),
    *("Hanoi", "Seoul", "Jakarta", "Dakar", "Accra", "Tunis", "Perth", "Auckland", "Boston"),
    *("New York", "San Diego", "Cape Town", "Buenos Aires", "Mexico City", "Hong Kong", "Osaka"),
)
CODES = (
    *("USD", "EUR", "GBP", "JPY", "CHF", "INR", "MXN", "AUD", "CAD", "NZD", "SEK", "NOK", "DKK"),
    *("PLN", "CZK", "HUF", "TRY", "ZAR", "BRL", "CNY", "KRW", "THB", "SGD", "HKD", "ILS", "AED"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LANGUAGES = ("French", "German", "Spanish", "Italian", "Turkish", "Polish", "Korean", "Hindi")
UNITS = (
    *(("miles", "kilometers"), ("pounds", "kilograms"), ("inches", "centimeters")),
    *(("Celsius", "Fahrenheit"), ("gallons", "liters"), ("feet", "meters"), ("ounces", "grams")),
)
ROOMS = ("kitchen", "bedroom", "living room", "hall", "bathroom", "garage", "office", "cellar")
THINGS = (
    *("milk", "bread", "batteries", "olive oil", "stamps", "cat food", "light bulbs", "paint"),
    *("coffee beans", "a new charger", "screws", "washing powder", "two lemons", "birthday cards"),
)
JOBS = (
    *("call the plumber", "water the plants", "pay the rent", "send the invoice", "feed the cat"),
    *("book the dentist", "buy a present for Ruth", "take out the bins", "renew my passport"),
)
LINES = (
    *("I'll be ten minutes late", "the meeting is moved", "dinner is ready", "call me back"),
    *("happy birthday", "the parcel has come", "I found your keys", "see you at the station"),
)
WORDS = (
    *("ephemeral", "gregarious", "obfuscate", "lucid", "ubiquitous", "tacit", "quixotic", "wane"),
    *("candour", "brisk", "mellow", "zeal", "opaque", "nimble", "frugal", "vivid"),
)
DISHES = (
    *("lasagne", "pea soup", "pancakes", "ramen", "apple pie", "chili", "paella", "falafel"),
    *("shakshuka", "goulash", "banana bread", "dal", "pierogi", "risotto"),
)
COMPANIES = ("Siemens", "Nestle", "Toyota", "Adidas", "Spotify", "Ford", "Nokia", "Airbus")


def _choose(values: Sequence[Any]) -> Callable[[random.Random], Any]:
    return lambda rng: rng.choice(values)


def _place(rng: random.Random) -> str:
    return rng.choice(CITIES) if rng.random() < 0.5 else invented(rng)


def _amount(rng: random.Random) -> float:
    if rng.random() < 0.25:
        return rng.randint(100, 99999) / 100
    return int(f"{rng.randint(1, 99)}{'0' * rng.randint(0, 3)}") + rng.choice((0, 0, 0, 5, 9, 49))


def _code(rng: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    if rng.random() < 0.5:
        return rng.choice(("", "A", "TK-", "#")) + str(rng.randint(100, 99999999))
    return "".join(rng.choice(letters) for _ in range(rng.randint(5, 12)))


def _clock(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"{rng.randint(0, 23):02}:{rng.choice((0, 5, 15, 30, 45)):02}"
    return f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}"


def _date(rng: random.Random) -> str:
    return f"{rng.randint(2024, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


VALUES: Mapping[str, Callable[[random.Random], Any]] = {
    "place": _place,
    "from": _place,
    "to": _place,
    "person": invented,
    "amount": _amount,
    "code": _choose(CODES),
    "other": _choose(CODES),
    "id": _code,
    "clock": _clock,
    "date": _date,
    "day": _choose(DAYS),
    "language": _choose(LANGUAGES),
    "units": _choose(UNITS),
    "room": _choose(ROOMS),
    "thing": _choose(THINGS),
    "job": _choose(JOBS),
    "line": _choose(LINES),
    "word": _choose(WORDS),
    "dish": _choose(DISHES),
    "company": _choose(COMPANIES),
    "few": lambda rng: rng.randint(2, 12),
    "many": lambda rng: rng.randint(5, 95),
}
"""The values of the patterns by their names."""


@dataclass(frozen=True)
class Kind:
    """Tools that do the same.

    Attributes:
        field: what they are about; a tool of another field never does what is wanted.
        names: of the tool; one is chosen.
        about: what it does.
        takes: arguments by the value that they take: names, type, text.
        requests: with `{value}`; arguments whose value is not said are left out.
    """

    field: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    takes: Mapping[str, tuple[tuple[str, ...], str, str]]
    requests: tuple[str, ...]


KINDS = (
    Kind(
        "money",
        ("exchange_money", "currency_exchange", "fx_convert", "currency_converter"),
        (
            "Exchange an amount of one currency for another.",
            "Work out what money is worth elsewhere.",
        ),
        {
            "amount": (("amount", "value", "sum"), "number", "the amount"),
            "code": (("source", "base", "from", "currency_from"), "string", "code, such as SEK"),
            "other": (("target", "quote", "to", "currency_to"), "string", "code, such as NOK"),
        },
        (
            "What is {amount} {code} in {other}?",
            "Convert {amount} {code} to {other}",
            "How many {other} do I get for {amount} {code}?",
            "I've got {amount} {code}, what would that be in {other}?",
            "My room costs {amount} {code}. How much is this in {other}?",
            "please change {amount} {code} into {other}",
            "{amount} {code} in {other}",
            "How much {other} is {amount} {code}?",
            "The ticket was {amount} {code}, tell me the price in {other}.",
            "If I trade {amount} {code} for {other}, what do I end up with?",
            "I need to know how many {other} {amount} {code} are.",
        ),
    ),
    Kind(
        "money",
        ("get_exchange_rate", "latest_rate", "fx_rate"),
        ("The rate between two currencies.", "Look up today's exchange rate."),
        {
            "code": (("base", "from"), "string", "currency code"),
            "other": (("symbol", "to"), "string", "currency code"),
        },
        (
            "What's the {code} to {other} rate today?",
            "exchange rate {code} {other}",
            "How does {code} stand against {other}?",
        ),
    ),
    Kind(
        "weather",
        ("get_weather", "current_weather", "weather_report"),
        ("The weather at a place now.", "Current conditions: sky, temperature, wind."),
        {"place": (("place", "location", "town"), "string", "name of the place")},
        (
            "What's it like outside in {place}?",
            "Is it cold in {place}?",
            "weather in {place}",
            "Do I need a coat in {place} today?",
            "How strong is the wind in {place}?",
            "Is the sun out in {place} right now?",
            "Tell me how warm it is in {place}.",
            "I'm off to {place}, what's the weather?",
        ),
    ),
    Kind(
        "weather",
        ("get_forecast", "weather_forecast"),
        ("The forecast for a place on a day.",),
        {
            "place": (("city", "location"), "string", "where"),
            "day": (("day", "weekday"), "string", "which day"),
        },
        (
            "Will it rain in {place} on {day}?",
            "forecast for {place} {day}",
            "What will the weather be on {day} in {place}?",
        ),
    ),
    Kind(
        "days",
        ("agenda", "get_events", "calendar_of_day", "my_appointments"),
        ("What the user has planned for a day.", "Read the user's appointments of a weekday."),
        {"day": (("weekday", "day", "on"), "string", "day of the week")},
        (
            "What's on for {day}?",
            "Do I have something planned on {day}?",
            "Show me my appointments for {day}.",
            "Where do I need to go on {day}?",
            "When does my first thing on {day} start?",
            "Am I free {day}?",
            "What am I doing on {day}?",
            "what's happening {day}",
            "Look up {day} in my diary, please.",
            "Who am I meeting on {day} and where?",
        ),
    ),
    Kind(
        "days",
        ("add_event", "create_appointment", "put_in_calendar"),
        ("Put an appointment into the calendar.",),
        {
            "job": (("title", "what", "name"), "string", "what it is"),
            "day": (("day", "weekday"), "string", "day of the week"),
            "clock": (("time", "start"), "string", "when it begins"),
        },
        (
            "Put '{job}' into my calendar for {day} at {clock}.",
            "On {day} at {clock} I have to {job}, note it in the calendar",
            "Schedule {job} for {day}, {clock}.",
            "Add {job} to {day}",
        ),
    ),
    Kind(
        "days",
        ("set_alarm", "alarm_at", "wake_up"),
        ("Set an alarm.",),
        {"clock": (("time", "at"), "string", "when it rings")},
        ("Wake me at {clock}.", "Set an alarm for {clock}", "I have to get up at {clock} tomorrow"),
    ),
    Kind(
        "days",
        ("start_timer", "set_timer", "countdown"),
        ("Start a timer.",),
        {
            "many": (("minutes", "duration"), "integer", "how many minutes"),
            "dish": (("label", "name"), "string", "what it is for"),
        },
        (
            "Set a timer for {many} minutes",
            "Start a {many} minute timer for the {dish}.",
            "Tell me when {many} minutes are over.",
        ),
    ),
    Kind(
        "days",
        ("remind_me", "create_reminder", "add_reminder"),
        ("Remind the user of something.",),
        {
            "job": (("text", "task", "message"), "string", "what to remind of"),
            "clock": (("time", "at"), "string", "when"),
        },
        (
            "Remind me to {job} at {clock}.",
            "Don't let me forget to {job}",
            "At {clock}, remind me to {job}",
        ),
    ),
    Kind(
        "people",
        ("send_message", "text_contact", "write_sms"),
        ("Send a short message to somebody.",),
        {
            "person": (("recipient", "to", "contact"), "string", "name of the contact"),
            "line": (("text", "message", "body"), "string", "what to send"),
        },
        (
            "Text {person}: {line}",
            "Tell {person} that {line}.",
            "Send '{line}' to {person}",
            "Message {person} saying {line}",
        ),
    ),
    Kind(
        "people",
        ("call_contact", "phone", "start_call"),
        ("Call somebody on the phone.",),
        {"person": (("contact", "name", "who"), "string", "whom to call")},
        ("Call {person}.", "Could you phone {person} for me?", "Get {person} on the line"),
    ),
    Kind(
        "people",
        ("get_contact", "lookup_contact"),
        ("The phone number and address of a contact.",),
        {"person": (("name", "person"), "string", "whose")},
        (
            "What's {person}'s phone number?",
            "Where does {person} live?",
            "Find {person} in my contacts",
        ),
    ),
    Kind(
        "shopping",
        ("add_to_shopping_list", "shopping_add", "put_on_list"),
        ("Put something on the shopping list.",),
        {"thing": (("item", "product"), "string", "what to buy")},
        ("Add {thing} to my shopping list.", "We need {thing}", "Put {thing} on the list please"),
    ),
    Kind(
        "words",
        ("translate", "translate_text", "translation"),
        ("Translate a text.",),
        {
            "line": (("text", "phrase"), "string", "what to translate"),
            "language": (("language", "target_language", "to"), "string", "into which language"),
        },
        (
            "How do you say '{line}' in {language}?",
            "Translate '{line}' into {language}.",
            "What is {line} in {language}?",
        ),
    ),
    Kind(
        "words",
        ("define", "dictionary", "look_up_word"),
        ("The meaning of a word.",),
        {"word": (("word", "term"), "string", "the word")},
        ("What does {word} mean?", "Define {word}", "Look up the word {word} for me."),
    ),
    Kind(
        "units",
        ("convert_length_or_weight", "unit_converter", "to_unit"),
        ("Convert a measure from one unit to another.",),
        {
            "amount": (("value", "number", "quantity"), "number", "how many"),
            "unit": (("from_unit", "unit", "source_unit"), "string", "its unit"),
            "unit2": (("to_unit", "target_unit", "into"), "string", "the unit wanted"),
        },
        (
            "How many {unit2} are {amount} {unit}?",
            "Convert {amount} {unit} to {unit2}.",
            "{amount} {unit} in {unit2}?",
        ),
    ),
    Kind(
        "clock",
        ("get_time", "local_time", "world_clock"),
        ("What time it is somewhere.",),
        {"place": (("city", "place", "where"), "string", "city")},
        ("What time is it in {place}?", "time in {place} now", "Is it still morning in {place}?"),
    ),
    Kind(
        "ways",
        ("get_distance", "route", "travel_distance"),
        ("How far it is from one place to another.",),
        {
            "from": (("origin", "start", "from_place"), "string", "where it begins"),
            "to": (("destination", "end", "to_place"), "string", "where it ends"),
        },
        (
            "How far is it from {from} to {to}?",
            "How long is the drive from {from} to {to}?",
            "distance {from} to {to}",
        ),
    ),
    Kind(
        "ways",
        ("find_trains", "train_connections", "search_rides"),
        ("Trains between two places on a date.",),
        {
            "from": (("departure", "from_station"), "string", "from where"),
            "to": (("arrival", "to_station"), "string", "to where"),
            "date": (("date", "travel_date"), "string", "YYYY-MM-DD"),
        },
        (
            "I need a train from {from} to {to} on {date}.",
            "Which trains go to {to} from {from}?",
            "Trains {from} to {to}, {date}",
        ),
    ),
    Kind(
        "parcels",
        ("track_parcel", "parcel_status", "where_is_order"),
        ("Where a parcel is.",),
        {"id": (("tracking_number", "parcel_id", "order_id"), "string", "its number")},
        (
            "Where is my parcel {id}?",
            "Has order {id} been sent?",
            "Track {id}",
            "When will {id} arrive?",
        ),
    ),
    Kind(
        "shares",
        ("get_stock_price", "stock_quote", "get_quote"),
        ("What a share costs.",),
        {"company": (("company", "stock"), "string", "name of the company")},
        ("How is {company} trading?", "What's a {company} share worth?", "{company} stock price"),
    ),
    Kind(
        "dishes",
        ("find_recipe", "recipe_for", "cookbook"),
        ("A recipe for a dish.",),
        {
            "dish": (("dish", "meal"), "string", "what to cook"),
            "few": (("servings", "people"), "integer", "for how many"),
        },
        (
            "How do I make {dish}?",
            "Give me a recipe for {dish} for {few} people.",
            "I want to cook {dish} for {few}",
        ),
    ),
    Kind(
        "light",
        ("set_light", "dim_lights", "light_level"),
        ("Set how bright the lights of a room are.",),
        {
            "room": (("room", "area"), "string", "which room"),
            "many": (("brightness", "percent"), "integer", "0 to 100"),
        },
        (
            "Set the {room} light to {many} percent.",
            "Dim the lights in the {room} to {many}%",
            "{room} lights at {many}",
        ),
    ),
    Kind(
        "heating",
        ("set_temperature", "thermostat", "heat_room"),
        ("Set the heating of a room.",),
        {
            "room": (("room", "zone"), "string", "which room"),
            "many": (("degrees", "temperature"), "integer", "degrees"),
        },
        ("Heat the {room} to {many} degrees", "Make it {many} degrees in the {room}."),
    ),
    Kind(
        "money",
        ("send_money", "pay_person", "transfer"),
        ("Send money to somebody.",),
        {
            "amount": (("amount", "sum"), "number", "how much"),
            "code": (("currency", "unit"), "string", "currency code"),
            "person": (("recipient", "to"), "string", "who gets it"),
        },
        (
            "Send {amount} {code} to {person}.",
            "I owe {person} {amount} {code}, pay it",
            "Transfer {amount} to {person}",
        ),
    ),
    Kind(
        "tables",
        ("book_table", "reserve_restaurant", "restaurant_booking"),
        ("Reserve a table.",),
        {
            "person": (("restaurant", "place"), "string", "name of the restaurant"),
            "few": (("guests", "party_size"), "integer", "how many come"),
            "clock": (("time", "at"), "string", "when"),
        },
        (
            "Book a table for {few} at {person} at {clock}.",
            "Reserve {person} for {few} people",
            "We are {few} and want to eat at {person}, {clock}",
        ),
    ),
)

(WEATHER,) = (kind for kind in KINDS if "get_weather" in kind.names)
