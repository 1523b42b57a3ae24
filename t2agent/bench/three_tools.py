"""Fifty real requests to an agent with three tools: weather, money and a calendar.

The tools are plain functions with small tables inside. A request is solved where a tool was called
with success and the last message says the value that was asked for as the tool gave it, numbers and
times in any form (`t2agent.bench.real.scoring.said`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2agent.bench.real.scoring import said

_WEATHER: Mapping[str, tuple[str, int, int]] = {  # condition, degrees Celsius, wind in km/h
    "Oslo": ("light snow", -3, 12),
    "Lima": ("cloudy", 19, 9),
    "Cairo": ("sunny", 31, 16),
    "Paris": ("heavy rain", 11, 27),
    "Tokyo": ("clear", 17, 7),
    "Chicago": ("windy", 6, 43),
    "Nairobi": ("partly cloudy", 24, 14),
    "Lisbon": ("foggy", 15, 5),
    "Mumbai": ("thunderstorm", 28, 33),
    "Sydney": ("sunny", 22, 18),
}
_EUROS: Mapping[str, float] = {  # of one unit
    "EUR": 1.0,
    "USD": 0.92,
    "GBP": 1.16,
    "JPY": 0.0062,
    "CHF": 1.05,
    "INR": 0.011,
    "MXN": 0.049,
}
_CALENDAR: Mapping[str, tuple[str, str, str]] = {  # title, begin, place
    "Monday": ("team meeting", "09:30", "room 4"),
    "Tuesday": ("dentist", "14:15", "Mill Street"),
    "Wednesday": ("piano lesson", "17:00", "music school"),
    "Thursday": ("lunch with Priya", "12:45", "Cafe Nero"),
    "Friday": ("project review", "10:00", "room 12"),
    "Saturday": ("football match", "15:30", "city stadium"),
    "Sunday": ("brunch with grandma", "11:15", "her house"),
}


def get_weather(city: str) -> str:
    """Get the weather in a city right now.

    Args:
        city: name of the city, such as Oslo
    """
    known = {name.casefold(): name for name in _WEATHER}
    name = known.get(city.split(",")[0].strip().casefold())
    if name is None:
        return json.dumps({"error": f"no weather for {city}"})
    condition, degrees, wind = _WEATHER[name]
    return json.dumps(
        {
            "city": name,
            "condition": condition,
            "temperature_celsius": degrees,
            "wind_kmh": wind,
        }
    )


def convert_currency(amount: float, from_currency: str, to_currency: str) -> str:
    """Convert an amount of money from one currency to another.

    Args:
        amount: how much money
        from_currency: code of the currency that it is in, such as USD
        to_currency: code of the currency that is wanted, such as EUR
    """
    given, wanted = from_currency.strip().upper(), to_currency.strip().upper()
    for code in (given, wanted):
        if code not in _EUROS:
            return json.dumps({"error": f"no rate for {code}; known: {', '.join(_EUROS)}"})
    found = amount * _EUROS[given] / _EUROS[wanted]
    return json.dumps({"amount": round(found, 2), "currency": wanted})


def get_calendar(day: str) -> str:
    """Look up what is in the user's calendar on a day of the week.

    Args:
        day: day of the week, such as Monday
    """
    entry = _CALENDAR.get(day.strip().capitalize())
    if entry is None:
        return json.dumps({"error": f"{day} is no day of the week"})
    title, begin, place = entry
    return json.dumps({"day": day.strip().capitalize(), "event": title, "time": begin,
                       "place": place})  # fmt: skip


TOOLS: tuple[Callable[..., str], ...] = (get_weather, convert_currency, get_calendar)


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """What a user asks, and the call that leads to the answer.

    ``wanted``: the field of the tool's result that the answer must say.
    """

    text: str
    tool: Callable[..., str]
    arguments: Mapping[str, Any]
    wanted: str

    @property
    def value(self) -> str:
        """What the answer must say."""
        return str(json.loads(self.tool(**self.arguments))[self.wanted])

    def is_answered(self, reply: str) -> bool:
        """Whether a reply says it."""
        return said([self.value], reply) == 1


def requests() -> Sequence[AgentRequest]:
    """The fifty."""
    weather = (
        AgentRequest(text, get_weather, {"city": city}, wanted)
        for text, city, wanted in _ABOUT_WEATHER
    )
    money = (
        AgentRequest(
            text,
            convert_currency,
            {"amount": amount, "from_currency": given, "to_currency": asked},
            "amount",
        )
        for text, amount, given, asked in _ABOUT_MONEY
    )
    days = (
        AgentRequest(text, get_calendar, {"day": day}, wanted) for text, day, wanted in _ABOUT_DAYS
    )
    return [*weather, *money, *days]


_ABOUT_WEATHER = (
    ("What's the weather like in Oslo?", "Oslo", "condition"),
    ("How warm is it in Cairo right now?", "Cairo", "temperature_celsius"),
    ("Tell me the temperature in Lima.", "Lima", "temperature_celsius"),
    ("Do I need an umbrella in Paris?", "Paris", "condition"),
    ("How windy is Chicago at the moment?", "Chicago", "wind_kmh"),
    ("Is it raining in Sydney today?", "Sydney", "condition"),
    ("I'm flying to Tokyo. What's the weather there?", "Tokyo", "condition"),
    ("weather mumbai", "Mumbai", "condition"),
    ("How many degrees is it in Nairobi?", "Nairobi", "temperature_celsius"),
    ("Can you check whether the sky is blue in Lisbon?", "Lisbon", "condition"),
    ("What is the wind speed in Oslo?", "Oslo", "wind_kmh"),
    ("Please find out how cold it is in Chicago.", "Chicago", "temperature_celsius"),
    ("I want to go for a walk in Nairobi, what is the sky like?", "Nairobi", "condition"),
    ("Give me the current conditions for Cairo", "Cairo", "condition"),
    ("Hi! Could you tell me how hot it is in Mumbai?", "Mumbai", "temperature_celsius"),
    ("Should I expect rain in Lima?", "Lima", "condition"),
    ("What does the thermometer say in Paris?", "Paris", "temperature_celsius"),
)
_ABOUT_MONEY = (
    ("How much is 100 USD in EUR?", 100, "USD", "EUR"),
    ("Convert 250 EUR to CHF.", 250, "EUR", "CHF"),
    ("What are 5000 JPY in USD?", 5000, "JPY", "USD"),
    ("I have 80 GBP. How many EUR is that?", 80, "GBP", "EUR"),
    ("Change 1200 INR into EUR please", 1200, "INR", "EUR"),
    ("A hotel costs 340 CHF a night. What is that in USD?", 340, "CHF", "USD"),
    ("How many GBP do I get for 75 USD?", 75, "USD", "GBP"),
    ("Please work out 60 EUR in JPY.", 60, "EUR", "JPY"),
    ("What would 999 MXN be in USD?", 999, "MXN", "USD"),
    ("Exchange 45 GBP to USD for me.", 45, "GBP", "USD"),
    ("Tell me what 12.50 EUR is in GBP", 12.5, "EUR", "GBP"),
    ("My flight is 420 USD. How much is it in CHF?", 420, "USD", "CHF"),
    ("If I swap 30 CHF for INR, how much do I get?", 30, "CHF", "INR"),
    ("I need 15000 INR in GBP", 15000, "INR", "GBP"),
    ("How many EUR are 640 MXN?", 640, "MXN", "EUR"),
    ("2000 USD to JPY?", 2000, "USD", "JPY"),
)
_ABOUT_DAYS = (
    ("What do I have on Monday?", "Monday", "event"),
    ("When is my appointment on Tuesday?", "Tuesday", "time"),
    ("Where do I have to be on Friday?", "Friday", "place"),
    ("Am I busy on Saturday?", "Saturday", "event"),
    ("What's planned for Sunday?", "Sunday", "event"),
    ("Look at my calendar for Wednesday.", "Wednesday", "event"),
    ("At what time does my event on Thursday start?", "Thursday", "time"),
    ("Where is my thing on Wednesday?", "Wednesday", "place"),
    ("Do I have anything on Thursday?", "Thursday", "event"),
    ("Which room is my meeting in on Monday?", "Monday", "place"),
    ("what's in my diary for tuesday", "Tuesday", "event"),
    ("When do I have to leave for brunch on Sunday? Tell me when it begins.", "Sunday", "time"),
    ("Check my schedule on Friday please.", "Friday", "event"),
    ("What time is the match on Saturday?", "Saturday", "time"),
    ("Remind me what I am doing on Thursday.", "Thursday", "event"),
    ("Is there something in my calendar on Monday, and when?", "Monday", "time"),
    ("Where am I going on Sunday?", "Sunday", "place"),
)
