"""People and their addresses, made with Faker in the language of their country.

Where a country's language is not known here, names and addresses are of the United States' kind.
The same seed and release of Faker make the same people. Everything fits Chinook's columns; e-mail
addresses are in the domains that RFC 2606 reserves for examples.
"""

from __future__ import annotations

import random
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from faker import Faker

__all__ = [
    "COUNTRIES",
    "FURTHER",
    "Address",
    "People",
    "Person",
    "address",
    "ascii_letters",
    "email",
    "fitting",
    "make_faker",
    "person",
    "phone",
    "street",
]

COUNTRIES = {
    "USA": ("en_US", 13, "state_abbr"),
    "Canada": ("en_CA", 8, "province_abbr"),
    "Brazil": ("pt_BR", 5, "estado_sigla"),
    "France": ("fr_FR", 5, None),
    "Germany": ("de_DE", 4, None),
    "United Kingdom": ("en_GB", 3, None),
    "Portugal": ("pt_PT", 2, None),
    "Czech Republic": ("cs_CZ", 2, None),
    "India": ("en_IN", 2, None),
    "Sweden": ("sv_SE", 1, None),
    "Hungary": ("hu_HU", 1, None),
    "Poland": ("pl_PL", 1, None),
    "Norway": ("no_NO", 1, None),
    "Italy": ("it_IT", 1, "state_abbr"),
    "Netherlands": ("nl_NL", 1, None),
    "Belgium": ("nl_BE", 1, None),
    "Austria": ("de_AT", 1, None),
    "Denmark": ("da_DK", 1, None),
    "Finland": ("fi_FI", 1, None),
    "Spain": ("es_ES", 1, None),
    "Ireland": ("en_IE", 1, None),
    "Chile": ("es_CL", 1, None),
    "Argentina": ("es_AR", 1, None),
    "Australia": ("en_AU", 1, "state_abbr"),
}
"""Country → Faker's locale, customers at scale 1, and what makes a state, if anything."""


FURTHER = {
    **dict.fromkeys(("United States", "United States of America", "US"), COUNTRIES["USA"]),
    **dict.fromkeys(("UK", "Great Britain"), COUNTRIES["United Kingdom"]),
    "Czechia": COUNTRIES["Czech Republic"],
    "The Netherlands": COUNTRIES["Netherlands"],
    "Switzerland": ("de_CH", 0, None),
    "Greece": ("el_GR", 0, None),
    "Romania": ("ro_RO", 0, None),
    "Slovakia": ("sk_SK", 0, None),
    "Croatia": ("hr_HR", 0, None),
    "Ukraine": ("uk_UA", 0, None),
    "Mexico": ("es_MX", 0, None),
    "Colombia": ("es_CO", 0, None),
    "New Zealand": ("en_NZ", 0, None),
    "Japan": ("ja_JP", 0, None),
    "South Korea": ("ko_KR", 0, None),
    "China": ("zh_CN", 0, None),
}
"""The same for other spellings, and for countries that the Chinook has no customers in.

Apart, as the stand-in's draws depend on how many `COUNTRIES` has. Turkey and others are missing as
Faker has names there, but no addresses.
"""


ELSEWHERE = ("en_US", 0, None)
"""The same for a country that is in neither."""


class Address(NamedTuple):
    """A customer's address, in the order of Customer's columns."""

    address: str
    city: str
    state: str | None
    country: str | None
    postal_code: str


class Person(NamedTuple):
    """A new customer, but for the id."""

    first_name: str
    last_name: str
    company: str | None
    address: Address
    phone: str
    fax: str | None


class People:
    """Makes the people of one day; each follows from seed, day, number and country alone."""

    def __init__(self, seed: int, day: date) -> None:
        self._seed = f"{seed}/{day}"
        self._fakers: dict[str, Faker] = {}

    def sign_up(self, number: int, country: str | None) -> Person:
        """Make the person of a number who signs up, in some country."""
        faker, rng, state = self._local("sign-up", number, country)
        first, last, _ = person(faker, rng)
        company = fitting(faker.company, 80) if rng.random() < 1 / 6 else None
        home = _address(faker, state, country)
        return Person(first, last, company, home, phone(faker), phone(faker) if company else None)

    def move(self, number: int, country: str | None) -> Address:
        """Make the address that the customer of a number moves to, in the same country."""
        faker, _, state = self._local("move", number, country)
        return _address(faker, state, country)

    def _local(
        self, purpose: str, number: int, country: str | None
    ) -> tuple[Faker, random.Random, str | None]:
        name = country or ""
        locale, _, state = COUNTRIES.get(name) or FURTHER.get(name, ELSEWHERE)
        if locale not in self._fakers:
            self._fakers[locale] = make_faker(locale)
        # Anew for each person, who so does not depend on who is made before.
        seed = f"{self._seed}/{purpose}/{number}"
        self._fakers[locale].seed_instance(seed)
        return self._fakers[locale], random.Random(seed), state  # noqa: S311


def _address(faker: Faker, state: str | None, country: str | None) -> Address:
    where, city, region, postal_code = address(faker, state)
    return Address(where, city, region, country, postal_code)


def make_faker(locale: str) -> Faker:
    """Make what makes people and addresses of a country."""
    from faker import Faker

    # Only these: a locale with all its providers takes four times as long to load.
    providers = [f"faker.providers.{name}" for name in ("person", "address", "company")]
    faker = Faker(locale, providers=[*providers, "faker.providers.phone_number"])
    for provider in faker.factories[0].get_providers():
        cities = getattr(provider, "cities", None)
        if locale == "it_IT" and cities:
            # They come out of a set, and so in another order in every process.
            vars(provider)["cities"] = sorted(cities)
    return faker


def person(faker: Faker, rng: random.Random) -> tuple[str, str, str]:
    """Make a first and a last name that go together, and both as one."""
    if rng.random() < 0.5:
        first, last = fitting(faker.first_name_female, 40), fitting(faker.last_name_female, 20)
    else:
        first, last = fitting(faker.first_name_male, 40), fitting(faker.last_name_male, 20)
    return first, last, f"{first} {last}"


def address(faker: Faker, state: str | None) -> tuple[str, str, str | None, str]:
    """Make street, city, state and postal code."""
    region = None if state is None else str(getattr(faker, state)())
    return street(faker), fitting(faker.city, 40), region, fitting(faker.postcode, 10)


def street(faker: Faker) -> str:
    """Make a street and a number in it."""
    if "ja_JP" in faker.locales:
        # Faker's streets there are English ones; Japan's houses are numbered by blocks.
        return faker.town() + faker.chome() + faker.ban() + faker.gou()
    return fitting(faker.street_address, 70)


def phone(faker: Faker) -> str:
    """Make a phone number."""
    return fitting(faker.phone_number, 24)


def fitting(make: Callable[[], str], length: int) -> str:
    """Make something until it fits its column, which it nearly always does."""
    while len(made := " ".join(make().split())) > length:
        pass
    return made


def email(first: str, last: str, number: int) -> str:
    """Make the e-mail address of a customer or employee of a number."""
    # Numbered, so that no two people share one.
    host = ("example.com", "example.net", "example.org")[number % 3]
    return f"{ascii_letters(first)[:18]}.{ascii_letters(last)[:18]}{number}@{host}"


def ascii_letters(name: str) -> str:
    """Spell a name for an e-mail address."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum()) or "me"


_LETTERS = str.maketrans({"ø": "o", "ł": "l", "ß": "ss", "æ": "ae", "ð": "d", "þ": "th", "đ": "d"})
