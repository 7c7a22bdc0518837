"""The vocabulary of the stand-in Chinook's artists, albums and tracks: all invented."""

from __future__ import annotations

__all__ = [
    "ADJECTIVES",
    "ALBUMS",
    "AUDIO_FORMATS",
    "AUDIO_GENRES",
    "BANDS",
    "GROUPS",
    "NOUNS",
    "PLACES",
    "PLAYLISTS",
    "SERIES",
    "TITLES",
    "VERBS",
    "VIDEO_FORMAT",
    "VIDEO_GENRES",
]

"""The vocabulary of the stand-in Chinook's artists, albums and tracks: all invented."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    """
    Amber Ancient Astral Bitter Black Blue Borrowed Brass Bright Broken Burning Cardinal
    Careless Celestial Cold Copper Crimson Crooked Dancing Dear Distant Drifting Early Electric
    Emerald Empty Endless Faded Falling Feral First Foreign Forgotten Fragile Frozen Gentle
    Ghostly Gilded Glass Golden Gravel Half-Lit Hidden Hollow Honest Hungry Indigo Iron Ivory
    Kind Last Lazy Lonely Lost Lucky Lunar Midnight Minor Moonlit Neon Nervous New Northern Old
    Open Orange Painted Paper Patient Perfect Plastic Quiet Radio Reckless Restless Rolling
    Rough Royal Rusty Sacred Salt Scarlet Second Secret Silent Silver Simple Sleepless Slow
    Small Southern Static Strange Sunday Tender Thirsty Tired Twisted Velvet Violet Wandering
    Warm Wicked Wild Winter Wooden Yellow
    """
)


NOUNS = _words(
    """
    Accident Airplane Anchor Apple Arrow Avenue Balcony Ballroom Bell Bird Boat Bridge Brother
    Candle Canyon Car Carousel Castle Cathedral Circle City Clock Coast Comet Compass Corner
    Cousin Crow Crown Curtain Dancer Daughter Day Desert Diamond Dog Door Dream Drum Eclipse
    Elephant Engine Feather Ferry Field Fire Flag Flood Flower Forest Fox Garden Gate Ghost
    Guitar Hand Harbour Heart Highway Hill Horizon Horse Hotel Hour House Hurricane Island
    Jacket Jar Key Kingdom Kite Ladder Lake Lantern Letter Light Lighthouse Line Lion Machine
    Magnet Map Market Meadow Mirror Moon Morning Motel Mountain Neighbour Night Ocean Orchard
    Owl Parade Passenger Photograph Piano Pilot Planet Pocket Postcard Prayer Promise Rain Raven
    Ribbon Ring River Road Rocket Room Rose Sailor Satellite School Season Secret Shadow Shoe
    Signal Sister Sky Snake Snow Song Sparrow Stairway Star Station Stone Storm Story Stranger
    Street Summer Sun Swan Telephone Thief Thunder Ticket Tide Tower Town Train Tree Umbrella
    Valley Village Voice Waltz Wave Window Wing Winter Wolf Wheel
    """
)


VERBS = _words(
    """
    Ask Believe Break Bring Call Carry Catch Chase Cross Feel Find Follow Forget Free Hear Hold
    Keep Leave Lift Love Meet Miss Move Paint Read Remember Save See Show Sing Take Teach Tell
    Trust Wake Watch
    """
)


PLACES = _words(
    """
    Aberdeen Ankara Antwerp Athens Auckland Bergen Bilbao Bogotá Bristol Cairo Calgary Cork
    Cracow Dakar Delhi Fez Galway Genoa Ghent Glasgow Hamburg Havana Helsinki Jakarta Kingston
    Kyoto Lagos Leeds Leipzig Lima Lisbon Lyon Malmö Manila Marseille Memphis Milan Montreal
    Nairobi Naples Nashville Oran Osaka Oslo Palermo Perth Porto Prague Quito Recife Riga
    Rotterdam Salvador Santiago Seville Sofia Tallinn Tampere Tangier Toledo Tulsa Turin Utrecht
    Valencia Vienna Warsaw Zagreb
    """
)


GROUPS = _words(
    """
    Band Brothers Collective Ensemble Orchestra Project Quartet Quintet Sisters Trio
    """
)


TITLES = (
    "{adjective} {noun}",
    "{adjective} {noun}",
    "The {adjective} {noun}",
    "{noun} in the {noun2}",
    "{noun} and {noun2}",
    "{verb} Me Slowly",
    "{verb} the {noun}",
    "{verb} My {noun}",
    "Don't {verb} the {noun}",
    "{verb} Me to {place}",
    "Back to {place}",
    "{place}",
    "{place} at Night",
    "{noun} of {place}",
    "Goodbye, {adjective} {noun}",
    "My {adjective} {noun}",
    "Another {noun}",
    "Until the {noun} Comes",
    "Under the {adjective} {noun}",
    "No {noun}, No {noun2}",
    "{noun} Song",
    "If You {verb} the {noun}",
)
"""Patterns of track and album titles."""


ALBUMS = (
    "{adjective} {noun}",
    "{nouns} and {nouns2}",
    "The {noun} Sessions",
    "Live in {place}",
    "Letters from {place}",
    "Songs for a {adjective} {noun}",
    "{adjective} {nouns}",
    "A {noun} in {place}",
    "The Best of the {adjective} Years",
    "{place} to {place2}",
)


BANDS = (
    "The {adjective} {nouns}",
    "The {noun} {nouns2}",
    "{adjective} {noun}",
    "{noun} & the {nouns2}",
    "{place} {nouns}",
    "{noun} {noun2}",
)
"""Patterns of the names of bands."""


SERIES = ("The {noun} of {place}", "{adjective} {noun}", "{place} Stories", "The {noun} Files")
"""Patterns of the names of television series, which the shop sells too."""


# fmt: off
AUDIO_GENRES = (
    "Rock", "Jazz", "Metal", "Alternative", "Blues", "Latin", "Reggae", "Pop", "Soundtrack",
    "Bossa Nova", "Easy Listening", "Soul", "Electronica", "World", "Hip Hop", "Folk",
    "Country", "Classical", "Opera", "Punk", "Funk",
)


# fmt: on

VIDEO_GENRES = ("Drama", "Comedy", "Documentary", "Science Fiction")

AUDIO_FORMATS = (
    "MPEG audio file",
    "AAC audio file",
    "Protected AAC audio file",
    "FLAC audio file",
)


VIDEO_FORMAT = "MPEG-4 video file"

PLAYLISTS = {
    "Early Morning": 1200,
    "Late Night": 900,
    "Road Trip": 700,
    "Kitchen Radio": 520,
    "Rainy Sunday": 400,
    "Dance Floor": 320,
    "Headphones Only": 260,
    "Deep Focus": 220,
    "Summer by the Lake": 180,
    "Songs with Brass": 140,
    "Slow Waltzes": 110,
    "Staff Picks": 90,
    "Quiet Guitars": 70,
    "One Take": 50,
    "For the Cat": 40,
    "On the Go": 12,
}
"""Playlists and how many tracks are on each, besides the two with all music and all videos."""
