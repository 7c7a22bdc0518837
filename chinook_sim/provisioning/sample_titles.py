"""Titles of invented albums and tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.provisioning.vocabulary import ADJECTIVES, AUDIO_FORMATS, NOUNS, PLACES, VERBS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


__all__ = ["media_format", "title_of"]


def title_of(rng: random.Random, patterns: Sequence[str]) -> str:
    """Return an invented title, after one of the patterns."""
    chance = rng.random

    def pick(words: Sequence[str]) -> str:
        return words[int(chance() * len(words))]

    noun, noun2 = pick(NOUNS), pick(NOUNS)
    return pick(patterns).format(
        adjective=pick(ADJECTIVES),
        noun=noun,
        noun2=noun2,
        nouns=plural(noun),
        nouns2=plural(noun2),
        verb=pick(VERBS),
        place=pick(PLACES),
        place2=pick(PLACES),
    )


def plural(noun: str) -> str:
    if noun.endswith("f"):
        return f"{noun[:-1]}ves"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def media_format(rng: random.Random) -> int:
    """Choose an audio format; most of the shop's music is in the first."""
    return 1 if rng.random() < 0.87 else rng.randrange(1, len(AUDIO_FORMATS)) + 1
