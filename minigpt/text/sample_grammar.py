"""From templates to stories: a small grammar with choices, and the assembly of a plot.

story(random.Random(1), "Tom")  ->  'Once upon a time there was a farmer called Tom. ...'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import NamedTuple, TypeVar

from minigpt.text.sample_plots import DAYS_OF_PLOT, FORMAL_PLOTS, PLOT_POOLS, PLOTS, SEASON_OF_PLOT
from minigpt.text.sample_tales import POOLS, WORDS
from minigpt.text.sample_world import DAYS, PEOPLE, Person

T = TypeVar("T")
_PIECE = re.compile(r"<(?:(an)(?=[ ^]))?(\^)? ?([\w.]+)(\^)?>|([{|}])|([^<{|}]+)")
_SHORT_PLOTS = tuple(
    plot.split()
    for plot in (
        "opening about encounter talk ending",
        "opening walk.start encounter ending",
        "opening about? lost.start lost.search lost.found",
        "opening about? night.noise night.look night.truth",
        "opening encounter walk.meet talk ending",
        "opening about evening.quiet ending",
        "opening about stray.start stray.found",
    )
)
_PLOT_NAMES = tuple(PLOTS)
_PLOTS = {name: plot.split() for name, plot in PLOTS.items()}


class _Slot(NamedTuple):
    name: str
    article: bool
    capital: bool


class _Choice(NamedTuple):
    options: tuple[_Template, ...]


# Who these are is said at the first mention: "Anna the baker", afterwards "Anna".
_INTRODUCED = ("a", "b", "c")
_Template = tuple  # of str, _Slot and _Choice: the pieces of a sentence, in order


def choice(rng: Random, options: Sequence[T]) -> T:
    """Like rng.choice, but the same on every version of Python."""
    return options[int(rng.random() * len(options))]


def with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def capitalised(words: str) -> str:
    return words[0].upper() + words[1:]


@cache
def _parsed(template: str) -> _Template:
    """Read a template in the notation of `sample_tales`; choices may be nested."""
    stack: list[list[list]] = [[[]]]
    for match in _PIECE.finditer(template):
        article, capital, name, late_capital, bracket, text = match.groups()
        if name:
            stack[-1][-1].append(_Slot(name, bool(article), bool(capital or late_capital)))
        elif bracket == "{":
            stack.append([[]])
        elif bracket == "|":
            stack[-1].append([])
        elif bracket == "}":
            options = stack.pop()
            stack[-1][-1].append(_Choice(tuple(tuple(option) for option in options)))
        else:
            stack[-1][-1].append(text)
    ((pieces,),) = stack
    return tuple(pieces)


@cache
def _pool(name: str) -> tuple[_Template, ...]:
    text = PLOT_POOLS[name] if name in PLOT_POOLS else POOLS[name]
    return tuple(_parsed(line.strip()) for line in text.strip().splitlines())


def _names(template: _Template, role: str) -> bool:
    return any(
        piece.name == role if type(piece) is _Slot else any(_names(option, role) for option in piece.options)
        for piece in template
        if type(piece) is not str
    )


@cache
def _endings_alone() -> tuple[_Template, ...]:
    """The endings for a hero who has met nobody."""
    return tuple(template for template in _pool("ending") if not _names(template, "b"))


@cache
def _words(name: str) -> tuple[_Template, ...]:
    return tuple(_parsed(word) for word in WORDS[name].split("|"))


def _write(template: _Template, bound: dict[str, str], rng: Random, out: list[str]) -> None:
    for piece in template:
        if type(piece) is str:
            out.append(piece)
        elif type(piece) is _Choice:
            _write(choice(rng, piece.options), bound, rng, out)
        else:
            word = bound.get(piece.name)
            if word is None:
                inner: list[str] = []
                _write(choice(rng, _words(piece.name)), bound, rng, inner)
                word = "".join(inner)
            if piece.article:
                word = with_article(word)
            out.append(capitalised(word) if piece.capital else word)
            if piece.name in _INTRODUCED:
                bound[piece.name] = bound[piece.name + ".name"]


def fill(template: str, rng: Random, bound: dict[str, str]) -> str:
    """Write one template, its slots taken from `bound`, else from WORDS."""
    out: list[str] = []
    _write(_parsed(template), bound, rng, out)
    return "".join(out)


@cache
def _role(role: str, person: Person) -> dict[str, str]:
    """What the templates may say about one person: `a`, `a.he`, `a.food`, and with a capital `a.He`, ..."""
    him, his = ("him", "his") if person.pronoun == "he" else ("her", "her")
    animal = person.animal
    names = {
        "he": person.pronoun,
        "him": him,
        "his": his,
        "name": person.name,
        "pet": animal.name,
        "bed": animal.bed,
        "petcolour": animal.colour,
        "peteats": animal.food,
        "species": animal.species,
        "sound": animal.sound,
    }
    names |= {name: getattr(person, name) for name in ("job", "home", "food", "drink", "colour", "hobby", "friend")}
    bound = {role: f"{person.name} the {person.job}"}
    for name, word in names.items():
        bound[f"{role}.{name}"] = word
        bound[f"{role}.{capitalised(name)}"] = capitalised(word)
    return bound


def _cast(plot: str, hero: Person, rng: Random) -> dict[str, str]:
    """Choose who and what this story is about; these words stay the same to its end."""
    friend = next(person for person in PEOPLE if person.name == hero.friend)
    others = [person for person in PEOPLE if person is not hero and person is not friend]
    companion, passer_by = choice(rng, others), choice(rng, others)
    while passer_by is companion:
        passer_by = choice(rng, others)
    with_friend = rng.random() < 0.5
    if with_friend:
        companion = friend
    bound = {**_role("a", hero), **_role("b", companion), **_role("c", passer_by)}
    if with_friend and plot not in FORMAL_PLOTS and rng.random() < 0.5:
        bound["b"] = f"{bound['a.his']} best friend {friend.name}"
    possible_days = DAYS_OF_PLOT.get(plot, "")
    days = [row for row in DAYS if not possible_days or row[0] in possible_days]
    bound["day"], bound["event"], _ = choice(rng, days)
    bound["season"] = SEASON_OF_PLOT.get(plot) or choice(rng, ("spring", "summer", "autumn"))
    bound["item"] = choice(rng, WORDS["thing"].split("|"))
    bound["item.colour"] = companion.colour if plot == "birthday" else choice(rng, WORDS["colour"].split("|"))
    return bound


def _order(plot: list[str], rng: Random) -> list[str]:
    """The pools of a plot in the order of this telling: some left out, groups in parentheses shuffled."""
    pools: list[str] = []
    group_start = 0
    for name in plot:
        if name == "(":
            group_start = len(pools)
        elif name == ")":
            for last in range(len(pools) - 1, group_start, -1):
                other = group_start + int(rng.random() * (last - group_start + 1))
                pools[last], pools[other] = pools[other], pools[last]
        elif not name.endswith("?"):
            pools.append(name)
        elif rng.random() < 0.5:
            pools.append(name[:-1])
    return pools


def story(rng: Random, hero: str | None = None, short: bool = False) -> str:
    """Tell a story of about 60 to 200 words, or a short one of three to five sentences, about one of PEOPLE."""
    plot = "" if short else choice(rng, _PLOT_NAMES)
    person = choice(rng, PEOPLE) if hero is None else next(p for p in PEOPLE if p.name == hero)
    bound = _cast(plot, person, rng)
    order = _order(choice(rng, _SHORT_PLOTS) if short else _PLOTS[plot], rng)
    if order[0] in ("opening", "self.hello"):
        bound["a"] = person.name  # these say themselves who the hero is
    out: list[str] = []
    told: set[_Template] = set()
    for name in order:
        pool = _pool(bound["season"] if name == "weather" else name)
        if name == "ending" and bound["b"] != bound["b.name"]:
            pool = _endings_alone()
        template = choice(rng, pool)
        while template in told:
            template = choice(rng, pool)
        told.add(template)
        sentence: list[str] = []
        _write(template, bound, rng, sentence)
        out.append(capitalised("".join(sentence)))
    return " ".join(out)
