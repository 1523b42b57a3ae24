"""What is measured on real data: each case by base model, own expert and dispatch; wrong experts;
and a mix of requests."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from t2agent.bench.datasets import read_json
from t2agent.bench.real.figures import MAIN, Figures, Verdict, figures, judged, main_value
from t2agent.bench.real.likelihood import likely_labels
from t2agent.bench.real.replies import BASE, DISPATCHED, Replies, Reply
from t2agent.bench.real.rows import KINDS, Asked, Case, asked, user
from t2agent.chat.chat_model import ChatT2
from t2agent.dispatch.dispatcher import CLASSIFIER
from t2agent.errors import ConfigError
from t2agent.train.confidence import Interval

EXPERT = "expert"
GAIN = "gain"
COLUMNS = (BASE, EXPERT, DISPATCHED, GAIN)

_WANTED = ("calls", "ground_truth", "must_say", "label", "fields", "answer")
_SMALL_TALK = frozenset(
    {
        "greeting", "goodbye", "thank_you", "are_you_a_bot", "do_you_have_pets", "how_old_are_you",
        "meaning_of_life", "tell_joke", "fun_fact", "what_are_your_hobbies", "what_is_your_name",
        "where_are_you_from", "who_do_you_work_for", "who_made_you", "what_can_i_ask_you",
    }
)  # fmt: skip
"""CLINC150's intents that want nothing but talk."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one case: over how many rows, and by whom; `GAIN`: the expert's less the base
    model's, with the interval of the difference."""

    case: str
    figure: str
    rows: int
    cells: Mapping[str, Interval]


@dataclass(slots=True)
class Measure:
    """Measures by one chat model; ``judged`` holds each reply with its verdict, in plain JSON."""

    chat: ChatT2
    replies: Replies
    seed: int = 0
    progress: bool = True
    judged: list[dict[str, Any]] = field(default_factory=list)

    @property
    def experts(self) -> list[str]:
        """All experts of the base model that requests are for."""
        return sorted(set(self.chat.registry.names()) - {CLASSIFIER})

    def case(self, case: Case) -> list[Line]:
        """The figures of a case. Where calls are wanted, they are asked for twice: a tool must be
        called, or may ("auto")."""
        lines = self._lines(case, "any", "")
        if case.kind == "calls":
            lines += self._lines(case, "auto", "auto: ")
        if case.kind == "labels":
            told = likely_labels(self.chat.t2, case, progress=self.progress)
            likely = figures(case, judged(case, [Reply(label) for label in told]))["strict"]
            cell = {BASE: Interval.of(likely)}
            lines.append(Line(case.name, "by likelihood", len(likely), cell))
        return lines

    def wrong(self, cases: Sequence[Case], most: int) -> dict[str, dict[str, float]]:
        """Case -> expert that is not for it -> its main figure less the base model's, on the same
        rows, at most so many of a case."""
        found: dict[str, dict[str, float]] = {}
        for case in (case.drawn(most, self.seed) for case in cases):
            own = KINDS[case.kind].expert
            figure = MAIN[case.kind]
            base = figures(case, self._verdicts(case, BASE))
            if figure not in base:
                continue
            for name in (name for name in self.experts if name != own):
                theirs = self._figures(case, name)
                gap = mean(theirs[figure]) - mean(base[figure])
                found.setdefault(case.name, {})[name] = gap
        return found

    def mixed(self, cases: Sequence[Case], requests: int, clinc: Path | str) -> dict[str, Any]:
        """Of so many requests, two thirds are for experts, evenly, and a third for none.

        "own", "dispatched": how right replies are to those for experts, by their own one and by
        dispatch; "gap": the first less the second; "own expert": the share that is sent to it.
        "left to base": of the requests for none, the share that the base model answers. {} where
        there are no experts, or no rows for them.

        Raises:
            ConfigError: CLINC150 is missing.
        """
        by_expert: dict[str, list[Case]] = {}
        for case in cases:
            if KINDS[case.kind].expert in self.experts:
                by_expert.setdefault(KINDS[case.kind].expert, []).append(case)
        if not by_expert:
            return {}
        others = requests // 3
        share = (requests - others) // len(by_expert)
        own: list[float] = []
        dispatched: list[float] = []
        sent: dict[str, float] = {}
        for name, theirs in by_expert.items():
            right: list[bool] = []
            for case in (case.drawn(-(-share // len(theirs)), self.seed) for case in theirs):
                by_own = self._verdicts(case, name)
                replies = self._replies(case, DISPATCHED)
                right += [reply.experts == (name,) for reply in replies]
                for one, other in zip(by_own, judged(case, replies), strict=True):
                    pair = main_value(case, one), main_value(case, other)
                    if pair[0] is not None and pair[1] is not None:
                        own.append(pair[0])
                        dispatched.append(pair[1])
            sent[name] = mean(right)
        if not own:
            return {}
        talk = [Asked(user(text), 1) for text in self._talk(cases, others, clinc)]
        left = [not reply.experts for reply in self.replies.get(DISPATCHED, talk, "small talk")]
        gaps = [one - other for one, other in zip(own, dispatched, strict=True)]
        return {
            "own": mean(own),
            "dispatched": mean(dispatched),
            "gap": mean(gaps),
            "gap half": Interval.of(gaps).half,
            "own expert": sent,
            "left to base": mean(left),
            "requests": {"for experts": len(own), "for none": len(left)},
        }

    def refused(self) -> dict[str, dict[str, int]]:
        """Case -> who -> how many requests had an error for a reply: they count as wrong."""
        found: dict[str, Counter[str]] = {}
        for one in self.judged:
            if one["error"]:
                found.setdefault(one["case"], Counter())[one["who"]] += 1
        return {case: dict(counts) for case, counts in found.items()}

    def _talk(self, cases: Sequence[Case], count: int, clinc: Path | str) -> list[str]:
        """Requests for no expert: half are questions of knowledge, as far as there are cases with
        such, without their choices, half CLINC150's small talk and what is out of its scope."""
        rng = random.Random(f"talk {self.seed}")
        asks = [
            str(row.get("question") or row["prompt"].partition("\n")[0])
            for case in cases
            if case.kind == "choice"
            for row in case.rows
        ]
        sets = read_json(clinc)
        if not isinstance(sets, dict) or not sets.keys() >= {"test", "oos_test"}:
            raise ConfigError(f"{clinc} lacks test and oos_test; give CLINC150's data_full")
        talk = [text for text, intent in sets["test"] if intent in _SMALL_TALK]
        outside = [text for text, _ in sets["oos_test"]]
        talk += rng.sample(outside, min(len(talk), len(outside)))
        questions = rng.sample(asks, min(count // 2, len(asks)))
        return questions + rng.sample(talk, min(count - len(questions), len(talk)))

    def _lines(self, case: Case, choice: str, prefix: str) -> list[Line]:
        own = KINDS[case.kind].expert
        who = {BASE: BASE} | ({EXPERT: own} if own in self.experts else {})
        who |= {DISPATCHED: DISPATCHED} if self.experts else {}
        found = {column: self._figures(case, one, choice) for column, one in who.items()}
        lines = []
        for name, base in found[BASE].items():
            cells = {column: Interval.of(own[name]) for column, own in found.items()}
            if EXPERT in found:
                pairs = zip(found[EXPERT][name], base, strict=True)
                cells[GAIN] = Interval.of(one - other for one, other in pairs)
            lines.append(Line(case.name, prefix + name, len(base), cells))
        return lines

    def _figures(self, case: Case, who: str, choice: str = "any") -> Figures:
        requests = asked(case, choice)
        replies = self._replies(case, who, choice)
        verdicts = judged(case, replies)
        self.judged += _told(case, who, requests, replies, verdicts)
        return figures(case, verdicts)

    def _verdicts(self, case: Case, who: str) -> list[Verdict]:
        return judged(case, self._replies(case, who))

    def _replies(self, case: Case, who: str, choice: str = "any") -> list[Reply]:
        return self.replies.get(who, asked(case, choice), f"{case.name}: {who}")


def _told(
    case: Case,
    who: str,
    requests: Sequence[Asked],
    replies: Sequence[Reply],
    verdicts: Sequence[Verdict],
) -> Iterator[dict[str, Any]]:
    for where, row, one, reply, verdict in zip(
        case.sets, case.rows, requests, replies, verdicts, strict=True
    ):
        wanted = next((row[key] for key in _WANTED if key in row), None)
        yield {
            "case": case.name,
            "set": where,
            "who": who,
            "tool_choice": one.tool_choice if one.tools else None,
            "request": one.messages[-1].get("content"),
            "wanted": wanted,
            "text": reply.text,
            "calls": list(reply.calls),
            "experts": list(reply.experts),
            "error": reply.error,
            "verdict": dict(verdict),
        }
