"""current_time: the time and date in a city, from the time zones that Python knows."""

from __future__ import annotations

import re
import unicodedata
import zoneinfo
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from typing import Annotated

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field

from t2agent.toolbox import nearest
from t2agent.toolbox.content import Arguments, Text, content_tool, shown
from t2agent.toolbox.dates import WEEKDAYS, Clock
from t2agent.toolbox.dates import now as present

# Cities after which no time zone is named, by the zone that they are in.
_MORE = {
    "Africa/Johannesburg": "cape town, pretoria, durban",
    "Africa/Cairo": "alexandria, giza",
    "Africa/Casablanca": "rabat, marrakesh, marrakech",
    "Africa/Lagos": "abuja",
    "America/Bogota": "medellin",
    "America/Chicago": "houston, dallas, austin, san antonio, new orleans, minneapolis, memphis",
    "America/Denver": "salt lake city, albuquerque",
    "America/Guayaquil": "quito",
    "America/Los_Angeles": "san francisco, seattle, san diego, las vegas, portland, san jose",
    "America/New_York": "boston, washington, philadelphia, miami, atlanta, nyc, baltimore",
    "America/Sao_Paulo": "rio de janeiro, rio, brasilia",
    "America/Toronto": "ottawa, montreal, quebec",
    "America/Mexico_City": "guadalajara, puebla",
    "Asia/Dubai": "abu dhabi",
    "Asia/Ho_Chi_Minh": "hanoi",
    "Asia/Jerusalem": "haifa",
    "Asia/Karachi": "islamabad, lahore",
    "Asia/Kolkata": "delhi, new delhi, mumbai, bangalore, bengaluru, chennai, hyderabad, pune",
    "Asia/Riyadh": "mecca, jeddah, medina",
    "Asia/Shanghai": "beijing, shenzhen, guangzhou, wuhan, chengdu, tianjin",
    "Asia/Tokyo": "osaka, kyoto, yokohama, nagoya, sapporo, hiroshima",
    "Australia/Sydney": "canberra",
    "Europe/Amsterdam": "rotterdam, the hague, utrecht",
    "Europe/Berlin": "munich, hamburg, cologne, frankfurt, stuttgart, dresden, leipzig, bonn",
    "Europe/Brussels": "antwerp, bruges, ghent",
    "Europe/Istanbul": "ankara, izmir",
    "Europe/Kyiv": "kyiv, lviv, odesa, odessa",
    "Europe/London": "edinburgh, manchester, liverpool, birmingham, glasgow, cardiff, bristol",
    "Europe/Madrid": "barcelona, valencia, seville, bilbao",
    "Europe/Moscow": "saint petersburg, st petersburg",
    "Europe/Paris": "lyon, marseille, nice, toulouse, bordeaux, strasbourg, lille",
    "Europe/Rome": "milan, naples, turin, venice, florence, bologna, genoa, palermo",
    "Europe/Stockholm": "gothenburg",
    "Europe/Vienna": "salzburg, graz, linz, innsbruck",
    "Europe/Warsaw": "krakow, gdansk, wroclaw",
    "Europe/Zurich": "geneva, bern, basel, lausanne",
    "Pacific/Auckland": "wellington, christchurch",
}
_CONTINENTS = ("Africa/", "America/", "Asia/", "Australia/", "Europe/", "Pacific/")
_OFFSET = re.compile(r"(?:utc|gmt)? ?([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
_LONGEST = 60


class CurrentTimeArguments(Arguments):
    """What current_time takes."""

    city: Annotated[
        Text, Field(description="such as Paris; leave it out for the time at this place")
    ] = ""


def make(*, now: Clock = present) -> BaseTool:
    """The tool; ``now`` gives the present moment."""

    def current_time(city: str) -> str:
        place = city[:_LONGEST].strip()
        moment = now().astimezone(_zone(place, city)) if place else now()
        offset = f"{moment:%z}"
        zone = f"UTC{offset[:3]}:{offset[3:5]}"
        if isinstance(moment.tzinfo, zoneinfo.ZoneInfo):
            zone = f"{moment.tzinfo.key}, {zone}"
        return f"{moment:%H:%M} on {WEEKDAYS[moment.weekday()]}, {moment.date()} ({zone})"

    return content_tool(
        "current_time", "Tells the time in a city.", CurrentTimeArguments, current_time
    )


def _zone(place: str, given: str) -> tzinfo:
    """The time zone of a city, of a zone's own name or of an offset such as UTC+2."""
    # What follows a comma is a country or the like; the answer says which zone was taken.
    name = _plain(place.partition(",")[0])
    if name in ("utc", "gmt", "z"):
        return UTC
    if found := _OFFSET.fullmatch(name):
        minutes = int(found[2]) * 60 + int(found[3] or 0)
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))
    zones = _zones()
    if not zones:
        raise ToolException(
            "this machine has no data on time zones, so only UTC and offsets such as UTC+2 can be "
            "told: install it with `pip install tzdata`"
        )
    if name not in zones:
        raise ToolException(
            f"{shown(given)} is no city whose time zone is known.{nearest(name, zones)} Give a "
            "larger city nearby, a zone such as Europe/Paris, or an offset such as UTC+2."
        )
    return zoneinfo.ZoneInfo(zones[name])


@cache
def _zones() -> dict[str, str]:
    """City or zone, as `_plain` writes it -> the zone's name; empty without data."""
    known = zoneinfo.available_timezones()
    # The continents last, to win over old names that end in the same word.
    zones = {_plain(key.rpartition("/")[2]): key for key in sorted(known, key=_priority)}
    zones |= {_plain(key): key for key in known}
    for zone, cities in _MORE.items():
        if zone in known:
            zones |= dict.fromkeys(cities.split(", "), zone)
    return zones


def _priority(key: str) -> tuple[bool, str]:
    return key.startswith(_CONTINENTS), key


def _plain(name: str) -> str:
    """A name without accents, capitals and underscores."""
    decomposed = unicodedata.normalize("NFKD", name.replace("_", " ").casefold())
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(re.sub("[.'’]", "", letters).split())
