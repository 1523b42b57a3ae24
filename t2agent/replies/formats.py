"""The formats of strings that JSON schema names, as languages.

Source: JSON Schema Validation, draft 2020-12, section 7.3, and the RFCs named there. Each holds
less than its RFC where a check by `datetime`, `ipaddress` or `uuid` would be stricter than the RFC.
"""

from __future__ import annotations

from functools import cache

from t2agent.replies.languages import TEXT, Language
from t2agent.replies.patterns import pattern

_YEAR = r"([1-9]\d{3})"
_DAY = (
    rf"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
    r"|02-(0[1-9]|1\d|2[0-8]))"
    r"|([1-9]\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29)"
)
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"
_HEX = "[0-9a-fA-F]"
_PIECE = rf"([a-zA-Z0-9_.~!$&'()*+,;=:@-]|%{_HEX}{{2}})"
_QUERY = rf"(\?({_PIECE}|[/?])*)?(#({_PIECE}|[/?])*)?"
_AUTHORITY = r"//[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:\d{1,4})?"
_URI = rf"[a-zA-Z][a-zA-Z0-9+.-]*:({_AUTHORITY}(/{_PIECE}*)*|/?{_PIECE}+(/{_PIECE}*)*){_QUERY}"
_GROUP = rf"{_HEX}{{1,4}}"
_THREE = rf"{_GROUP}(:{_GROUP}){{0,2}}"
_TIME_PART = r"T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)"

_PATTERNS = {
    "date": _DAY,
    "time": _CLOCK,
    "date-time": rf"{_DAY}T{_CLOCK}",
    "duration": rf"P((\d+D|\d+M(\d+D)?|\d+Y(\d+M(\d+D)?)?)({_TIME_PART})?|{_TIME_PART}|\d+W)",
    "email": rf"[a-zA-Z0-9_+-]+(\.[a-zA-Z0-9_+-]+)*@{_HOST}\.[a-zA-Z]{{2,6}}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "ipv6": rf"({_GROUP}:){{7}}{_GROUP}|({_THREE})?::({_THREE})?",
    "uri": _URI,
    "uri-reference": rf"{_URI}|(/{_PIECE}*)+{_QUERY}|{_QUERY}",
    "uri-template": rf"({_PIECE}|[/?#]|\{{[a-zA-Z0-9_]+\}})*",
    "uuid": rf"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "json-pointer": r"(/([^/~\x00-\x1f]|~[01])*)*",
    "relative-json-pointer": r"(0|[1-9]\d{0,5})(#|(/([^/~\x00-\x1f]|~[01])*)*)",
}
_SAME = {"idn-email": "email", "idn-hostname": "hostname", "iri": "uri"}
_SAME |= {"iri-reference": "uri-reference"}


@cache
def named(name: str) -> Language:
    """The format's texts; any text for a name that is not known."""
    given = _PATTERNS.get(_SAME.get(name, name))
    return TEXT if given is None else pattern(f"^({given})$")
