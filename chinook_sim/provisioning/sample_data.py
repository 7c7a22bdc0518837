"""A stand-in Chinook: the structure of the real one, with an invented catalogue and history.

At scale 1 the eleven tables have the row counts of the real Chinook. A larger scale multiplies
artists, albums, tracks, customers, playlist entries, invoices and their lines. Employees, genres,
media types and playlists stay.

The same scale, date, seed and release of Faker make the same shop. People and addresses are
Faker's, in the language of their country. E-mail addresses are in the domains that RFC 2606
reserves for examples.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from chinook_sim.models import (
    Album,
    Artist,
    Customer,
    Employee,
    Genre,
    Invoice,
    InvoiceLine,
    MediaType,
    Playlist,
    Track,
    playlist_track,
)
from chinook_sim.models.base import amount_text
from chinook_sim.provisioning.sample_titles import media_format, title_of
from chinook_sim.provisioning.vocabulary import (
    ALBUMS,
    AUDIO_FORMATS,
    AUDIO_GENRES,
    BANDS,
    GROUPS,
    PLAYLISTS,
    SERIES,
    TITLES,
    VIDEO_FORMAT,
    VIDEO_GENRES,
)
from chinook_sim.sampling.people import (
    COUNTRIES,
    address,
    ascii_letters,
    email,
    fitting,
    make_faker,
    person,
    phone,
    street,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from faker import Faker
    from sqlalchemy import Table

__all__ = ["EARLIEST", "MAX_SCALE", "Row", "rows"]

MAX_SCALE = 1_000
"""Beyond this the stand-in would have more than fifteen million rows."""

ARTISTS, ALBUM_COUNT, VIDEO_ALBUMS = 275, 347, 11

AUDIO_TRACKS, VIDEO_TRACKS = 3_290, 213

INVOICES, LINES = 412, 2_240

FIVE_YEARS = timedelta(days=5 * 365)

EARLIEST = date(100, 1, 1)
"""The earliest day that there may be a shop on: employees are up to sixty years old."""


Row = tuple[Any, ...]


def rows(scale: int, today: date, *, seed: int = 1) -> Iterator[tuple[Table, Iterable[Row]]]:
    """Make the rows of all tables, each after those it refers to.

    Values are what both databases read from text: numbers, strings, amounts as `0.99`, moments as
    `2026-01-31 00:00:00`.

    Args:
        scale: 1 to `MAX_SCALE`, which is not checked here.
        today: the sales end two days before.
        seed: another one makes another shop.
    """
    shop = _Shop(scale, today, seed)
    yield Artist.__table__, enumerate(shop.artists, 1)
    yield Genre.__table__, enumerate([*AUDIO_GENRES, *VIDEO_GENRES], 1)
    yield MediaType.__table__, enumerate([*AUDIO_FORMATS, VIDEO_FORMAT], 1)
    yield Album.__table__, shop.albums()
    yield Track.__table__, shop.tracks()
    yield Playlist.__table__, enumerate(["Music", "Videos", *PLAYLISTS], 1)
    yield playlist_track, shop.playlist_entries()
    yield Employee.__table__, shop.employees()
    yield Customer.__table__, shop.customers
    yield Invoice.__table__, shop.invoices()
    yield InvoiceLine.__table__, shop.lines()


class _Shop:
    """Makes the rows; ids are 1, 2, 3 … in the order in which things are made."""

    def __init__(self, scale: int, today: date, seed: int) -> None:
        self._scale = scale
        self._today = today
        self._seed = seed
        self._fakers: dict[str, Faker] = {}
        bands = ARTISTS - VIDEO_ALBUMS
        self._audio_albums = (ALBUM_COUNT - VIDEO_ALBUMS) * scale
        self._video_albums = VIDEO_ALBUMS * scale
        rng = self._rng("artists")
        self.artists = self._names(rng, bands * scale, self._artist)
        self.artists += self._names(rng, self._video_albums, lambda rng: title_of(rng, SERIES))
        # How many tracks each album has: five at least, and the rest as chance has it.
        self._album_sizes = _shares(rng, AUDIO_TRACKS * scale, self._audio_albums, least=5)
        self._album_sizes += _shares(rng, VIDEO_TRACKS * scale, self._video_albums, least=8)
        self._basket_sizes = _shares(rng, LINES * scale, INVOICES * scale, least=1)
        self._album_genres = [
            rng.randrange(len(AUDIO_GENRES)) + 1 for _ in range(self._audio_albums)
        ] + [
            len(AUDIO_GENRES) + rng.randrange(len(VIDEO_GENRES)) + 1
            for _ in range(self._video_albums)
        ]
        self.customers = list(self._make_customers())

    def _rng(self, purpose: str) -> random.Random:
        # Of its own for each purpose, so that one table does not depend on how another is made.
        return random.Random(f"{self._seed}/{purpose}")  # noqa: S311

    def _faker(self, locale: str) -> Faker:
        if locale not in self._fakers:
            faker = make_faker(locale)
            faker.seed_instance(f"{self._seed}/{locale}")
            self._fakers[locale] = faker
        return self._fakers[locale]

    def _names(
        self, rng: random.Random, count: int, make: Callable[[random.Random], str]
    ) -> list[str]:
        """Make names that are all different."""
        seen: Counter[str] = Counter()
        names: list[str] = []
        while len(names) < count:
            name = make(rng)
            seen[name] += 1
            # After a few tries a namesake is numbered, as libraries do.
            if seen[name] == 1 or seen[name] > 20:
                names.append(name if seen[name] == 1 else f"{name} ({seen[name] - 19})")
        return names

    def _artist(self, rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.45:
            return title_of(rng, BANDS)
        locale = rng.choice([locale for locale, _, _ in COUNTRIES.values()])
        faker = self._faker(locale)
        if kind < 0.85:
            return person(faker, rng)[2]
        return f"{person(faker, rng)[1]} {rng.choice(GROUPS)}"

    def albums(self) -> Iterator[Row]:
        """Albums: every artist has one, some more; each series is one."""
        rng = self._rng("albums")
        bands = (ARTISTS - VIDEO_ALBUMS) * self._scale
        for album in range(self._audio_albums):
            artist = album if album < bands else rng.randrange(bands)
            yield album + 1, title_of(rng, ALBUMS), artist + 1
        for number in range(self._video_albums):
            season = f"{self.artists[bands + number]}, Season {rng.randint(1, 4)}"
            yield self._audio_albums + number + 1, season, bands + number + 1

    def tracks(self) -> Iterator[Row]:
        """Tracks: music at 0.99, television at 1.99."""
        rng = self._rng("tracks")
        composers = [person(self._faker("en_US"), rng)[2] for _ in range(400)]
        track = 0
        for album, (size, genre) in enumerate(
            zip(self._album_sizes, self._album_genres, strict=True), 1
        ):
            video = album > self._audio_albums
            writer = rng.choice(composers)
            titles: set[str] = set()
            while len(titles) < size:
                title = title_of(rng, TITLES)
                if title in titles:
                    continue
                titles.add(title)
                track += 1
                if video:
                    length = rng.randint(1_200_000, 3_000_000)
                    yield (
                        track, f"Episode {len(titles)}: {title}", album, len(AUDIO_FORMATS) + 1,
                        genre, None, length, length * rng.randint(160, 200), "1.99",
                    )  # fmt: skip
                else:
                    length = int(min(max(rng.gauss(240_000, 60_000), 62_000), 780_000))
                    others = rng.random()
                    composer = (
                        None if others < 0.25 else writer if others < 0.8 else
                        f"{writer}, {rng.choice(composers)}"
                    )  # fmt: skip
                    yield (
                        track, title, album, media_format(rng), genre, composer, length,
                        length * rng.randint(28, 36), "0.99",
                    )  # fmt: skip

    def playlist_entries(self) -> Iterator[Row]:
        """Playlist entries: all music, all videos, and selections of the music."""
        rng = self._rng("playlists")
        music = AUDIO_TRACKS * self._scale
        yield from ((1, track) for track in range(1, music + 1))
        yield from ((2, music + track) for track in range(1, VIDEO_TRACKS * self._scale + 1))
        for playlist, size in enumerate(PLAYLISTS.values(), 3):
            chosen = sorted(rng.sample(range(1, music + 1), size * self._scale))
            yield from ((playlist, track) for track in chosen)

    def employees(self) -> Iterator[Row]:
        """Employees: two departments under one general manager."""
        rng = self._rng("employees")
        faker = self._faker("en_CA")
        staff = (
            ("General Manager", None),
            ("Sales Manager", 1),
            *[("Sales Support Agent", 2)] * 3,
            ("IT Manager", 1),
            *[("IT Staff", 6)] * 2,
        )
        office = address(faker, "province_abbr")
        for employee, (title, manager) in enumerate(staff, 1):
            first, last, _ = person(faker, rng)
            born = self._today - timedelta(days=rng.randint(25 * 365, 60 * 365))
            hired = self._today - timedelta(days=rng.randint(6 * 365, 10 * 365))
            yield (
                employee, last, first, title, manager, _midnight(born), _midnight(hired),
                street(faker), *office[1:3], "Canada", office[3], phone(faker), phone(faker),
                f"{ascii_letters(first)}@example.com"
                if employee == 1
                else email(first, last, employee),
            )  # fmt: skip

    def _make_customers(self) -> Iterator[Row]:
        """Customers: of 24 countries, in the proportions of the real Chinook."""
        rng = self._rng("customers")
        customer = 0
        for country, (locale, count, state) in COUNTRIES.items():
            faker = self._faker(locale)
            for _ in range(count * self._scale):
                customer += 1
                first, last, _ = person(faker, rng)
                street, city, region, postcode = address(faker, state)
                company = fitting(faker.company, 80) if rng.random() < 1 / 6 else None
                fax = phone(faker) if company else None
                yield (
                    customer, first, last, company, street, city, region, country, postcode,
                    phone(faker), fax, email(first, last, customer), rng.randint(3, 5),
                )  # fmt: skip

    def invoices(self) -> Iterator[Row]:
        """Invoices: each customer's turn comes once a round; the dates rise to two days ago."""
        rng = self._rng("invoices")
        count = INVOICES * self._scale
        last = self._today - timedelta(days=2)
        totals = self._totals()
        turn: list[Row] = []
        for invoice in range(count):
            if not turn:
                turn = rng.sample(self.customers, len(self.customers))
            customer = turn.pop()
            day = last - FIVE_YEARS * (count - 1 - invoice) // (count - 1)
            yield (
                invoice + 1, customer[0], _midnight(day), *customer[4:9], amount_text(next(totals)),
            )  # fmt: skip

    def lines(self) -> Iterator[Row]:
        """Invoice lines, in the order of the invoices."""
        line = 0
        for invoice, basket in enumerate(self._baskets(), 1):
            for track in basket:
                line += 1
                yield line, invoice, track, amount_text(self._cents(track)), 1

    def _baskets(self) -> Iterator[list[int]]:
        # Made anew for totals and for lines, rather than kept.
        rng = self._rng("baskets")
        tracks = range(1, (AUDIO_TRACKS + VIDEO_TRACKS) * self._scale + 1)
        for size in self._basket_sizes:
            yield rng.sample(tracks, size)

    def _totals(self) -> Iterator[int]:
        return (sum(map(self._cents, basket)) for basket in self._baskets())

    def _cents(self, track: int) -> int:
        return 99 if track <= AUDIO_TRACKS * self._scale else 199


def _shares(rng: random.Random, total: int, parts: int, *, least: int) -> list[int]:
    """Divide a total at random into parts of at least so much each."""
    extra = Counter(int(rng.random() * parts) for _ in range(total - least * parts))
    return [least + extra[part] for part in range(parts)]


def _midnight(day: date) -> str:
    return f"{day} 00:00:00"
