"""The people who sign up: of their country, and the same for a seed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from chinook_sim.sampling.people import COUNTRIES, FURTHER, People, make_faker
from support.changes import DAY


def test_people_are_of_their_country() -> None:
    people = People(7, DAY)
    assert people.sign_up(3, "Germany") == People(7, DAY).sign_up(3, "Germany")
    assert people.sign_up(3, "Germany") != people.sign_up(4, "Germany")
    assert people.move(3, "Germany") != people.move(3, "Brazil")
    known = COUNTRIES | FURTHER
    for country in (*known, "Atlantis", None):
        for number in range(20):
            made = people.sign_up(number, country)
            assert made.address.country == country
            assert (made.address.state is not None) == (
                known.get(country or "", (0, 0, None))[2] is not None
            )
            home = made.address
            sizes = (
                (made.first_name, 40), (made.last_name, 20), (made.phone, 24),
                (home.address, 70), (home.city, 40), (home.postal_code, 10),
            )  # fmt: skip
            assert all(0 < len(value) <= most for value, most in sizes), made
    # Letters that only Czech has.
    names = "".join(people.sign_up(number, "Czech Republic").last_name for number in range(40))
    assert set("řěů") & set(names)
    # Of a country that is not known, as of the United States.
    assert people.sign_up(3, "Atlantis")[:3] == people.sign_up(3, "USA")[:3]


@pytest.mark.slow(reason="starts two Pythons")
def test_a_seed_makes_the_same_people_in_every_process() -> None:
    # Whose sets have another order, of which a process with a fixed one knows nothing.
    line = (
        "from datetime import date; from chinook_sim.sampling.people import *; "
        "people = People(7, date(2026, 1, 31)); "
        "print([(people.sign_up(3, it), people.move(3, it)) for it in COUNTRIES | FURTHER])"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", line],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


@pytest.mark.parametrize(
    ("country", "letters"),
    [("Greece", "α"), ("Romania", "ă"), ("Slovakia", "ľ"), ("Croatia", "č"), ("Ukraine", "и"),
     ("Mexico", "ó"), ("Colombia", "á"), ("Switzerland", "ü"), ("Japan", "市"),
     ("South Korea", "시"), ("China", "县"), ("New Zealand", "M")],
)  # fmt: skip
def test_further_countries_have_a_language_of_their_own(country: str, letters: str) -> None:
    people = People(7, DAY)
    made = [people.sign_up(number, country) for number in range(60)]
    assert letters in "".join(
        f"{it.first_name}{it.address.city}{it.address.address}" for it in made
    )
    if country in ("Japan", "China", "South Korea"):
        assert not any(re.search("[a-z]{2}", it.address.address + it.first_name) for it in made)
    # Faker has something of everything for it, and takes nothing of the United States.
    locale, customers, _ = FURTHER[country]
    assert customers == 0
    has = {type(it).__module__ for it in make_faker(locale).factories[0].get_providers()}
    assert has >= {
        f"faker.providers.{what}.{locale}" for what in ("person", "address", "phone_number")
    }


@pytest.mark.parametrize(
    ("spelling", "country"),
    [("United States", "USA"), ("US", "USA"), ("United States of America", "USA"),
     ("UK", "United Kingdom"), ("Great Britain", "United Kingdom"),
     ("Czechia", "Czech Republic"), ("The Netherlands", "Netherlands")],
)  # fmt: skip
def test_a_country_has_other_spellings(spelling: str, country: str) -> None:
    people = People(7, DAY)
    made, same = people.sign_up(3, spelling), people.sign_up(3, country)
    assert made == same._replace(address=same.address._replace(country=spelling))
