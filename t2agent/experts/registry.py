"""The experts that a base model can use, and the ways to make one known.

Where experts share a name, the first of these is used: registered in code, the user's folder
(``$T2AGENT_HOME/experts/<base>/``), entry points in the group `t2agent.experts`, shipped with
t2agent.
"""

from __future__ import annotations

import difflib
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from t2agent.errors import (
    ConfigError,
    ExpertError,
    ExpertExistsError,
    ExpertFormatError,
    ExpertNotFoundError,
    T2Error,
)
from t2agent.experts import folder as expert_folder
from t2agent.experts.blend import blend
from t2agent.experts.cache import ExpertCache
from t2agent.experts.card import ExpertCard, Modality, check_name
from t2agent.experts.compatibility import BaseModel
from t2agent.experts.discovery import Catalogue, Entry, View
from t2agent.experts.eligibility import Eligibility
from t2agent.experts.expert import Expert, MixtureLike, as_mixture
from t2agent.experts.hub import HubOptions
from t2agent.experts.pins import Address, LockFile, Pin
from t2agent.experts.pulling import Pulled, download, newest, pinned_as
from t2agent.files import remove_folder
from t2agent.paths import base_slug

_LOAD_ATTEMPTS = 20

# Experts that `register_expert` keeps in this process only, for every registry of their base model:
# slug -> name -> entry. Threads need no lock for a single operation on a dict.
_IN_PROCESS: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
_ASKED_IN_PROCESS: defaultdict[str, dict[str, bool | None]] = defaultdict(dict)


class Registry:
    """The experts of one base model.

    ``in``, ``len`` and iteration go by name. All methods may be called from any thread. Folders
    are looked at again when they change (within a second where a file is altered in place), so
    that an expert which another process trains is found. An expert that cannot be used is left
    out with one warning and listed in `problems`. A registered Expert is a value: after changing
    its vectors in place, register it again.

    Args:
        base: the base model's name; `t2agent.paths.base_slug` makes the folders' name of it.
        fingerprint: of the base model's weights; None when the model is not loaded. Then the
            shipped experts' cards tell it, where there are any.
        shapes: module name -> length of its z; None when the model is not loaded.
        cache: keeps the vectors that were loaded; None for one of the registry's own.
    """

    def __init__(
        self,
        base: str,
        *,
        fingerprint: str | None = None,
        shapes: Mapping[str, int] | None = None,
        cache: ExpertCache[Any] | None = None,
    ) -> None:
        shapes = None if shapes is None else dict(shapes)
        self._base = BaseModel(base, fingerprint or "", shapes)
        self._slug = self._base.slug
        self._catalogue = Catalogue(self._base)
        self._cache: ExpertCache[Any] = ExpertCache() if cache is None else cache
        self._code: dict[str, Entry] = {}
        self._asked: dict[str, bool | None] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Registry({self.base!r}, experts={self.names()})"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._view().entries

    def __len__(self) -> int:
        return len(self._view().entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    @property
    def base(self) -> str:
        """The base model's name."""
        return self._base.name

    @property
    def fingerprint(self) -> str:
        """A hash of all names, cards and vectors: it changes with whatever changes an answer."""
        return self._view().fingerprint

    @property
    def user_folder(self) -> Path:
        """Where the user's experts lie."""
        return self._catalogue.user_folder

    @property
    def problems(self) -> Mapping[str, ExpertError]:
        """The experts that were left out: where each is -> why."""
        return self._view().problems

    def names(self, modality: Modality | None = None) -> list[str]:
        """The names of all experts, or of those for one kind of request, sorted."""
        return list(self.cards(modality))

    def cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """The cards by name, sorted; no vectors are loaded.

        Raises:
            ConfigError: there is no such modality.
        """
        if modality is not None and modality not in get_args(Modality):
            raise ConfigError(f"modality is {modality!r}; give 'text', 'image' or None")
        return dict(self._view().cards[modality])

    def eligible(self, name: str) -> Eligibility:
        """Whether dispatch may choose an expert by itself, and why; raises as `get`.

        It may once the card shows that it beats the base model (`t2agent.experts.eligibility`), or
        as somebody said (`set_eligible`). Asked for by name, every expert answers.
        """
        self._entry(name)
        return self._view().eligible[name]

    def eligible_cards(self, modality: Modality | None = None) -> dict[str, ExpertCard]:
        """As `cards`, of the experts that dispatch may choose by itself."""
        cards, view = self.cards(modality), self._view()
        return {n: card for n, card in cards.items() if n in view.eligible and view.eligible[n][0]}

    def set_eligible(self, name: str, eligible: bool | None, *, persist: bool = False) -> None:
        """Say whether dispatch may choose an expert by itself; None leaves it to its card.

        Args:
            name: the expert's.
            eligible: whether it may.
            persist: whether it holds for later processes, too.

        Raises:
            ExpertNotFoundError: there is no expert of that name.
            ConfigError: ``eligible`` is something else, or the file of it is damaged.
        """
        if eligible is not None and not isinstance(eligible, bool):
            raise ConfigError(f"eligible is {eligible!r:.80}; give True, False or None")
        self._entry(name)
        with self._lock:
            self._forget_asked(name)
            if persist:
                self._catalogue.overrides.put(name, eligible)
            else:
                self._asked[name] = eligible
            self._catalogue.look_again()

    def card(self, name: str) -> ExpertCard:
        """The card of one expert; raises as `get`."""
        return self._entry(name).card

    def parameters(self, name: str) -> int:
        """How many numbers an expert has; no vectors are loaded; raises as `get`."""
        return self._entry(name).parameters

    def source(self, name: str) -> str:
        """Where an expert is from: its folder, "code" or "entry point"; raises as `get`."""
        entry = self._entry(name)
        return entry.source if entry.folder is None else str(entry.folder)

    def get(self, name: str) -> Expert:
        """The expert of that name, its vectors loaded.

        It is the same object until it changes, for as long as anybody holds it. Vectors from
        folders that were not asked for lately are dropped (`t2agent.experts.cache`).

        Raises:
            ExpertNotFoundError: there is none; the message lists the names, close ones first.
            ExpertFormatError, ExpertMismatchError: there is one, but it cannot be used.
        """
        with self._lock:
            for _ in range(_LOAD_ATTEMPTS):
                entry = self._entry(name)
                expert = entry.load()
                if expert is not None:
                    self._cache.keep(expert, rereadable=entry.folder is not None)
                    return expert
                assert entry.folder is not None  # what was given in code is always there
                self._catalogue.reread(entry.folder)
        raise ExpertFormatError(
            f"expert {name!r} in {entry.folder} keeps changing while it is read; "
            "wait until the process that writes it is done"
        )

    def register(
        self,
        expert: Expert | Path | str,
        *,
        replace: bool = False,
        persist: bool = False,
        eligible: bool | None = None,
    ) -> Expert:
        """Make an expert known to this registry.

        Args:
            expert: the expert, or the folder that it lies in.
            replace: whether it may take the place of another of its name.
            persist: whether to save it in the user's folder, for later processes.
            eligible: whether dispatch may choose it by itself; None leaves it to its card (see
                `eligible`).

        Raises:
            ExpertExistsError: the name is taken, and ``replace`` is False.
            ExpertMismatchError: the expert is for another base model or for other shapes.
            ExpertFormatError: the folder is damaged, or a vector holds NaN or infinity.
        """
        given = expert if isinstance(expert, Expert) else Expert.load(expert)
        self.check(given)
        given.check_finite()
        with self._lock:
            self._check_free(given.name, replace=replace, persist=persist)
            if persist:
                with self._lock_file.pinning(given.name, None):
                    given.save(self._catalogue.user_folder / given.name)
                self._forget(given.name)
            else:
                self._code[given.name] = Entry.of(given, "code")
            self._catalogue.look_again()
            # What was said of one that had the name before does not hold for this one.
            self.set_eligible(given.name, eligible, persist=persist)
            return self.get(given.name)

    def unregister(self, name: str, *, persist: bool = False) -> None:
        """Make an expert unknown to this registry, whatever its source.

        Args:
            name: the expert's name.
            persist: whether to delete it from the user's folder, and its pin, as well. Without
                that, an expert that was found in a folder is back in the next process.

        Raises:
            ExpertNotFoundError: there is no expert of that name.
            ConfigError: ``persist``, but the expert ships with t2agent or with another package.
        """
        check_name(name)
        with self._lock:
            folder = self._catalogue.in_user_folder(name) if persist else None
            if folder is not None or (persist and name in self.pins()):
                with self._lock_file.pinning(name, None):
                    if folder is not None:
                        remove_folder(folder)
            elif self._entry(name).source in ("shipped", "entry point") and persist:
                raise ConfigError(
                    f"expert {name!r} comes with a package and cannot be deleted; "
                    f"unregister({name!r}) without persist hides it in this process"
                )
            self._forget(name)
            self._forget_asked(name)
            if persist:
                self._catalogue.overrides.put(name, None)
            self._catalogue.hide(name)

    def pin(self, name: str) -> Pin | None:
        """Where on the Hub an expert that is there is from; None for others; raises as `get`."""
        return self._entry(name).pin

    def pull(
        self,
        repo: str,
        *,
        revision: str | None = None,
        subfolder: str = "",
        name: str | None = None,
        replace: bool = False,
        update: bool = False,
        options: HubOptions | None = None,
    ) -> Expert:
        """Take an expert from the Hub into the user's folder, and pin its version.

        Without a revision, one that is pinned already stays at its version (nothing is asked of the
        Hub where it is there), and another is taken from the main branch.

        Args:
            repo: "user/name" or "user/name@revision".
            revision: a branch, a tag or a commit.
            subfolder: the folder in the repository, where it holds several experts.
            name: what to call it here; the name on its card if not given.
            replace: whether it may take the place of another expert of that name.
            update: whether to take the newest version of the branch that a pinned one is of.
            options: how the Hub is reached.

        Raises:
            ExpertNotFoundError, HubError, ConfigError: as `Expert.from_pretrained`.
            ExpertExistsError, ExpertMismatchError, ExpertFormatError: as `register`; the last also
                where files are not those that were pinned.
        """
        options = options or HubOptions()
        address, pins = Address.parse(repo, revision, subfolder), self.pins()
        pinned = pinned_as(pins, address, name)
        if pinned is None or address.revision is not None:
            pulled = download(address, name or pinned, options)
        elif update:
            pulled = download(newest(address, pins[pinned]), pinned, options)
        elif self._has(pinned, pins[pinned]):
            return self.get(pinned)
        else:
            pulled = download(pins[pinned].address, pinned, options, pins[pinned])
        return self._install(pulled, replace)

    def restore(
        self, *, replace: bool = False, options: HubOptions | None = None
    ) -> dict[str, Expert | T2Error]:
        """Pull every pinned expert that is not there at its very version.

        Args:
            replace: whether one may take the place of an expert of your own of its name.
            options: how the Hub is reached.

        Returns:
            The name of each pinned expert -> the expert, or why it cannot be had.

        Raises:
            ConfigError: the lock file is damaged.
        """
        done: dict[str, Expert | T2Error] = {}
        for name, pin in self.pins().items():
            try:
                if not self._has(name, pin):
                    pulled = download(pin.address, name, options or HubOptions(), pin)
                    self._install(pulled, replace)
                done[name] = self.get(name)
            except T2Error as error:
                done[name] = error
        return done

    def pins(self) -> dict[str, Pin]:
        """Which versions the lock file asks for: name -> pin; raises ConfigError if damaged."""
        return self._lock_file.pins()

    def blend(self, mixture: MixtureLike, name: str, *, description: str = "") -> Expert:
        """A mixture of experts, per-layer weights too, as one expert; it is not registered yet.

        Raises:
            ExpertNotFoundError, ExpertFormatError: as `get`.
            ConfigError, ExpertMismatchError: as `t2agent.experts.blend.blend`.
        """
        mixed, given = as_mixture(mixture)
        experts = [given[one] if one in given else self.get(one) for one in sorted(mixed.experts())]
        return blend(mixed, experts, name, description=description)

    def check(self, expert: Expert) -> None:
        """Raise ExpertMismatchError where an expert is not for this base model."""
        with self._lock:
            problem = self._catalogue.misfit(expert.card, expert.lengths)
        if problem is not None:
            raise problem

    def _view(self) -> View:
        with self._lock:
            asked = _ASKED_IN_PROCESS[self._slug] | self._asked
            return self._catalogue.view(_IN_PROCESS[self._slug] | self._code, asked)

    def _entry(self, name: str) -> Entry:
        view = self._view()
        # Whatever it is that has no name: an unhashable one would be a TypeError below.
        name = name if isinstance(name, str) else repr(name)
        entry = view.entries.get(name)
        if entry is not None:
            return entry
        if name in view.problems_by_name:
            raise view.problems_by_name[name]
        known = list(view.entries)
        close = difflib.get_close_matches(str(name), known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        listed = ", ".join(known) or "none; train one or register a folder"
        raise ExpertNotFoundError(
            f"no expert {name!r} for base model {self.base!r}.{hint} Registered: {listed}."
        )

    def _check_free(self, name: str, *, replace: bool, persist: bool) -> None:
        if not replace and name in self:
            raise ExpertExistsError(
                f"an expert {name!r} is registered for {self.base!r} already; "
                "give replace=True or another name"
            )
        folder = self._catalogue.user_folder / name
        if persist and folder.exists():
            holder = self._catalogue.name_in(folder)
            if not replace or holder != name:
                raise ExpertExistsError(
                    f"{folder} exists already and holds expert {holder!r}; give replace=True "
                    "if that is the expert to replace, or another name"
                )

    def _has(self, name: str, pin: Pin) -> bool:
        """Whether the pinned version is there."""
        try:
            there = self.pin(name)
        except ExpertError:
            return False
        return there is not None and there.address == pin.address and there.vectors == pin.vectors

    @property
    def _lock_file(self) -> LockFile:
        return LockFile(self._catalogue.user_folder, self.base)

    def _install(self, pulled: Pulled, replace: bool) -> Expert:
        name = pulled.expert.name
        self.check(pulled.expert)
        with self._lock:
            pinned, entry = self.pins().get(name), self._view().entries.get(name)
            # One from the same place may be replaced, and one that the pin has hidden before.
            again = pinned is not None and pinned.is_of(pulled.pin.address)
            if again and entry is not None and entry.source in ("user", "code"):
                again = entry.pin is not None and entry.pin.is_of(pulled.pin.address)
            self._check_free(name, replace=replace or again, persist=True)
            with self._lock_file.pinning(name, pulled.pin):
                expert_folder.write(self._catalogue.user_folder / name, pulled.files)
            self._forget(name)
            self._catalogue.look_again()
            return self.get(name)

    def _forget(self, name: str) -> None:
        self._code.pop(name, None)
        _IN_PROCESS[self._slug].pop(name, None)

    def _forget_asked(self, name: str) -> None:
        self._asked.pop(name, None)
        _ASKED_IN_PROCESS[self._slug].pop(name, None)


def base_for(expert: Expert, model: str | None = None) -> str:
    """The base model that an expert is registered for: ``model``, else the one on its card.

    Raises:
        ConfigError: neither names one.
    """
    if base := model or expert.card.base:
        return base
    raise ConfigError(
        f"the card of expert {expert.name!r} names no base model; say which one it was trained "
        "for, by its name (model)"
    )


def register_expert(
    expert: Expert | Path | str,
    *,
    model: str | None = None,
    replace: bool = False,
    persist: bool = True,
    eligible: bool | None = None,
) -> Expert:
    """Make an expert known for a base model that need not be loaded.

    Args:
        expert: the expert, or the folder that it lies in.
        model: the base model's name, as given to `T2Model.from_pretrained`; None for the one on
            the expert's card.
        replace: whether it may take the place of another of its name.
        persist: whether to save it in the user's folder; False keeps it in this process, for
            every registry of that base model.
        eligible: whether dispatch may choose it by itself; None leaves it to its card: it may once
            the card shows that it beats the base model.

    Raises:
        ExpertExistsError, ExpertMismatchError, ExpertFormatError: as `Registry.register`.
        ConfigError: neither ``model`` nor the card names a base model.
    """
    given = expert if isinstance(expert, Expert) else Expert.load(expert)
    base = base_for(given, model)
    registered = Registry(base).register(given, replace=replace, persist=persist, eligible=eligible)
    if not persist:
        _IN_PROCESS[base_slug(base)][registered.name] = Entry.of(registered, "code")
        _ASKED_IN_PROCESS[base_slug(base)][registered.name] = eligible
    return registered
