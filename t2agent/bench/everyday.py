"""Tools of everyday life and requests for them in plain English, for t2-nano to call.

Written by somebody who had not seen the rules of `t2agent.engine.argument_values`, and not used to
make them. Every value of a call literally occurs in its request: a word, a phrase, a number or one
of the choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Case = tuple[str, Mapping[str, Any]]
"""A request, and the arguments of the right call."""


def tool(name: str, description: str, /, **arguments: Any) -> dict[str, Any]:
    """An OpenAI function tool that needs all its arguments. Of each: a schema, a type's name, or
    the strings to choose from."""
    properties = {argument: _schema(kind) for argument, kind in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _schema(kind: Any) -> Mapping[str, Any]:
    if isinstance(kind, str):
        return {"type": kind}
    return kind if isinstance(kind, Mapping) else {"type": "string", "enum": kind}


_S, _I, _N = "string", "integer", "number"
_STRINGS: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}
_INTEGERS: Mapping[str, Any] = {"type": "array", "items": {"type": "integer"}}

EVERYDAY: tuple[tuple[Mapping[str, Any], tuple[Case, ...]], ...] = (
    (
        tool("reserve_table", "Reserve a table at a restaurant.", restaurant=_S, party_size=_I),
        (
            ("Get us a table for 6 at Luigi's.", {"restaurant": "Luigi's", "party_size": 6}),
            (
                "Could you book Blue Lagoon tonight? We'll be 4.",
                {"restaurant": "Blue Lagoon", "party_size": 4},
            ),
        ),
    ),
    (
        tool("call_contact", "Place a phone call.", whom=_S),
        (
            ("Call Grandma please", {"whom": "Grandma"}),
            ("I need to talk to Dr. Weber, can you ring him?", {"whom": "Dr. Weber"}),
        ),
    ),
    (
        tool(
            "create_ticket",
            "Open a ticket in the issue tracker.",
            title=_S,
            priority=["low", "medium", "high", "urgent"],
        ),
        (
            (
                'Open a high priority ticket titled "Login page crashes on Safari".',
                {"title": "Login page crashes on Safari", "priority": "high"},
            ),
            (
                "File a ticket for broken printer, it's urgent!",
                {"title": "broken printer", "priority": "urgent"},
            ),
        ),
    ),
    (
        tool("transfer_money", "Send money from the user's account.", payee=_S, sum=_N),
        (
            ("Send 45.50 to Marcus.", {"payee": "Marcus", "sum": 45.5}),
            ("Please pay Greenfield Dental 130 euros", {"payee": "Greenfield Dental", "sum": 130}),
        ),
    ),
    (
        tool("find_parking", "Find a place to park near an address.", address=_S),
        (
            ("Where can I park near 14 Elm Road?", {"address": "14 Elm Road"}),
            ("Find me some parking close to Union Square.", {"address": "Union Square"}),
        ),
    ),
    (
        tool("add_calendar_event", "Put an event in the calendar.", event=_S, date=_S, time=_S),
        (
            (
                "Put dentist appointment in my calendar for May 12 at 14:00.",
                {"event": "dentist appointment", "date": "May 12", "time": "14:00"},
            ),
            (
                "Next Tuesday at 8 pm I have choir practice, can you add that?",
                {"event": "choir practice", "date": "Next Tuesday", "time": "8 pm"},
            ),
        ),
    ),
    (
        tool("run_query", "Fetch the first rows of a database table.", table=_S, limit=_I),
        (
            ("Show me the first 10 rows of customers.", {"table": "customers", "limit": 10}),
            ("What's in the order_items table? 25 rows.", {"table": "order_items", "limit": 25}),
        ),
    ),
    (
        tool("create_playlist", "Create a music playlist with songs.", title=_S, songs=_STRINGS),
        (
            (
                "Make a playlist called Road Trip with Hey Jude, Africa and Thriller.",
                {"title": "Road Trip", "songs": ["Hey Jude", "Africa", "Thriller"]},
            ),
            (
                'I\'d like a new playlist "Chill" that has Imagine and Yesterday on it.',
                {"title": "Chill", "songs": ["Imagine", "Yesterday"]},
            ),
        ),
    ),
    (
        tool("set_blinds", "Move the blinds of a window.", window=_S, position=["open", "closed"]),
        (
            ("I want the bedroom blinds closed.", {"window": "bedroom", "position": "closed"}),
            ("Can you open the blinds in the study?", {"window": "study", "position": "open"}),
        ),
    ),
    (
        tool("log_meal", "Note a meal and its calories.", food=_S, calories=_I),
        (
            ("I had a bagel, 290 calories.", {"food": "bagel", "calories": 290}),
            ("Log 450 kcal for the chicken salad.", {"food": "chicken salad", "calories": 450}),
        ),
    ),
    (
        tool("rent_car", "Rent a car in a city.", city=_S, days=_I, car_type=["compact", "suv"]),
        (
            (
                "I need a compact for 4 days in Lyon.",
                {"city": "Lyon", "days": 4, "car_type": "compact"},
            ),
            (
                "Rent an suv in Cape Town, we'll keep it 10 days.",
                {"city": "Cape Town", "days": 10, "car_type": "suv"},
            ),
        ),
    ),
    (
        tool("sum_values", "Add up whole numbers.", values=_INTEGERS),
        (
            ("What do 17, 45 and 230 add up to?", {"values": [17, 45, 230]}),
            ("Please sum 8, 12, 99 and 4 for me", {"values": [8, 12, 99, 4]}),
        ),
    ),
    (
        tool("order_taxi", "Order a taxi.", pickup=_S, dropoff=_S),
        (
            (
                "Get me a cab from Harbor Hotel to the opera.",
                {"pickup": "Harbor Hotel", "dropoff": "opera"},
            ),
            (
                "I need a ride to Heathrow, pick me up at Baker Street.",
                {"pickup": "Baker Street", "dropoff": "Heathrow"},
            ),
        ),
    ),
    (
        tool("print_document", "Print copies of a document.", document=_S, copies=_I),
        (
            ("Print 3 copies of invoice.pdf.", {"document": "invoice.pdf", "copies": 3}),
            ("contract_v2.docx, print it 2 times", {"document": "contract_v2.docx", "copies": 2}),
        ),
    ),
    (
        tool("lookup_medicine", "Look up the side effects of a medicine.", medicine=_S),
        (
            ("What are the side effects of ibuprofen?", {"medicine": "ibuprofen"}),
            ("Does amoxicillin have any side effects?", {"medicine": "amoxicillin"}),
        ),
    ),
    (
        tool("invite_guests", "Invite guests to a party.", guests=_STRINGS, occasion=_S),
        (
            (
                "Invite Nora, Felix and Sam to my housewarming.",
                {"guests": ["Nora", "Felix", "Sam"], "occasion": "housewarming"},
            ),
            (
                "Would you ask Aunt May and Peter to come to the garden party?",
                {"guests": ["Aunt May", "Peter"], "occasion": "garden party"},
            ),
        ),
    ),
    (
        tool("restart_service", "Restart a service on a server.", service=_S, server=_S),
        (
            ("Restart nginx on web-01.", {"service": "nginx", "server": "web-01"}),
            ("postgres hangs on db3, restart it", {"service": "postgres", "server": "db3"}),
        ),
    ),
    (
        tool("preheat_oven", "Preheat the oven.", degrees=_I, setting=["bake", "grill", "fan"]),
        (
            ("Preheat the oven to 180 degrees, fan.", {"degrees": 180, "setting": "fan"}),
            ("Could you get the oven to 220 on grill?", {"degrees": 220, "setting": "grill"}),
        ),
    ),
    (
        tool("get_match_score", "Get the latest score of a sports team.", team=_S),
        (
            ("How did Liverpool do last night?", {"team": "Liverpool"}),
            ("Tell me the score of the Boston Celtics game.", {"team": "Boston Celtics"}),
        ),
    ),
    (
        tool("log_hours", "Record hours worked on a project.", project=_S, hours=_N),
        (
            ("Log 6.5 hours on Apollo.", {"project": "Apollo", "hours": 6.5}),
            (
                "I worked 3 hours on the website redesign today.",
                {"project": "website redesign", "hours": 3},
            ),
        ),
    ),
    (
        tool("repot_plant", "Plan when to repot a houseplant, in days.", plant=_S, days=_I),
        (
            ("My fern should be repotted in 3 days.", {"plant": "fern", "days": 3}),
            (
                "In 14 days I have to repot the peace lily, make a note of it.",
                {"plant": "peace lily", "days": 14},
            ),
        ),
    ),
    (
        tool("search_jobs", "Search for job offers.", job=_S, city=_S),
        (
            ("Any openings for a nurse in Leeds?", {"job": "nurse", "city": "Leeds"}),
            ("Look for data analyst jobs in Madrid.", {"job": "data analyst", "city": "Madrid"}),
        ),
    ),
    (
        tool("tag_photo", "Add tags to a photo.", photo=_S, tags=_STRINGS),
        (
            (
                "Tag beach.jpg with summer and family.",
                {"photo": "beach.jpg", "tags": ["summer", "family"]},
            ),
            (
                "Please add the tags cat, funny and garden to IMG_0042.png.",
                {"photo": "IMG_0042.png", "tags": ["cat", "funny", "garden"]},
            ),
        ),
    ),
    (
        tool("post_message", "Post a message in a chat channel.", channel=_S, text=_S),
        (
            (
                "Tell the design channel that the mockups are ready.",
                {"channel": "design", "text": "the mockups are ready"},
            ),
            ('Post "Lunch is here" in general.', {"channel": "general", "text": "Lunch is here"}),
        ),
    ),
    (
        tool("request_leave", "Ask for days off work.", first_day=_S, last_day=_S),
        (
            (
                "I'd like to take time off from July 7 to July 18.",
                {"first_day": "July 7", "last_day": "July 18"},
            ),
            (
                "Can I have Thursday through Monday off?",
                {"first_day": "Thursday", "last_day": "Monday"},
            ),
        ),
    ),
)
"""Tool -> requests for it."""
