"""Which database the settings name, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

from chinook_sim.database.settings import Location, find_database, scrub
from chinook_sim.database.urls import read_url
from chinook_sim.errors import InvalidInput

HERE = Path("here")
URL = "CHINOOK_SIM_DATABASE_URL"
PSYCOPG = "postgresql+psycopg://"


@pytest.mark.parametrize(
    ("option", "environ", "expected", "source"),
    [
        (None, {}, "sqlite:///here/chinook.db", "the default"),
        ("sqlite:///a.db", {URL: "sqlite:///b.db"}, "sqlite:///a.db", "--database-url"),
        # The command passes the variable's value as the option's.
        ("sqlite:///b.db", {URL: "sqlite:///b.db"}, "sqlite:///b.db", URL),
        ("", {URL: "sqlite:///b.db"}, "sqlite:///b.db", URL),
        (None, {URL: "sqlite:///b.db", "DATABASE_URL": "sqlite:///c.db"}, "sqlite:///b.db", URL),
        (None, {URL: "", "DATABASE_URL": "sqlite:///c.db"}, "sqlite:///c.db", "DATABASE_URL"),
        (None, {"DATABASE_URL": "sqlite:///c.db", "PGHOST": "h"}, "sqlite:///c.db", "DATABASE_URL"),
        (None, {"PGHOST": "h"}, PSYCOPG, "PGHOST"),
        (None, {"PGSERVICE": "shop"}, PSYCOPG, "PGSERVICE"),
        (None, {"PGDATABASE": "shop"}, PSYCOPG, "PGDATABASE"),
        (None, {"PGPORT": "5433"}, PSYCOPG, "PGPORT"),
        (None, {"PGHOSTADDR": "127.0.0.1"}, PSYCOPG, "PGHOSTADDR"),
        (None, {"PGHOST": "h", "NEON_PROJECT_ID": "p"}, PSYCOPG, "PGHOST"),
        (None, {"PGPASSWORD": "x", "PGUSER": "u"}, "sqlite:///here/chinook.db", "the default"),
        (None, {"PGHOST": ""}, "sqlite:///here/chinook.db", "the default"),
    ],
)
def test_the_first_setting_that_is_set_wins(
    option: str | None, environ: dict[str, str], expected: str, source: str
) -> None:
    location = find_database(environ, option=option, directory=HERE)
    assert location.url.render_as_string(hide_password=False) == expected
    assert location.source == source
    assert location.embedded == (source == "the default")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h:5433/d", "postgresql+psycopg://u:p@h:5433/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("POSTGRESQL://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        (" postgresql://u:p@h/d\n", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p%40ss@h/d", "postgresql+psycopg://u:p%40ss@h/d"),
        ("postgresql://u:p%2Fss%25@h/d", "postgresql+psycopg://u:p%2Fss%25@h/d"),
        ("postgresql://h/d?sslmode=require", "postgresql+psycopg://h/d?sslmode=require"),
        ("postgresql://[::1]:5432/d", "postgresql+psycopg://[::1]:5432/d"),
        ("postgresql:///d", "postgresql+psycopg:///d"),
        ("postgresql://u@%2Ftmp%2Fsocket/d", "postgresql+psycopg://u@/tmp/socket/d"),
        ("postgresql://u@h1:1,h2/d", "postgresql+psycopg://u@/d?host=h1%2Ch2&port=1%2C"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
        ("sqlite+pysqlite:////var/shop.db", "sqlite:////var/shop.db"),
    ],
)
def test_a_url_means_what_it_says(given: str, expected: str) -> None:
    assert read_url(given, "X").render_as_string(hide_password=False) == expected


def test_a_path_may_have_any_character() -> None:
    assert read_url("sqlite:///with space, # and ü.db", "X").database == "with space, # and ü.db"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hunter2", "look like postgresql://"),
        ("u:hunter2@h/d", "look like postgresql://"),
        ("//u:hunter2@h/d", "look like postgresql://"),
        ("postgresql:u:hunter2@h/d", "look like postgresql://"),
        ("shop.db", "sqlite:///file.db"),
        ("postgresql://u:hun@hunter2@h/d", "%40"),
        ("postgresql://u:p@hunter2?x@127.0.0.1/d", "%40"),
        ("postgresql://u:hunter2?x=1@y@h/d", "%40"),
        ("postgresql://u:p@h/d?hunter2@", "%40"),
        ("postgresql://u:hunter2%00@h:1/d", "control character"),
        ("postgresql://u:hunter2%ZZ@h/d", "%25"),
        ("postgresql://u:hunter2%4@h/d", "%25"),
        ("postgresql://u:hunter2%@h/d", "%25"),
        ("postgresql://u:p@h/d?password=hunter2%ZZ", "percent-encoded"),
        ("postgresql://u:hunter2@a..b/d", "host name"),
        ("postgresql://u:hunter2@h:٣/d", "port"),
        ("postgresql://h:hunter2/d", "percent-encoded"),
        ("postgresql://u@h:hunter2/d", "percent-encoded"),
        ("postgresql://[::hunter2/d", "percent-encoded"),
        ("postgresql://u:p@h:99999/hunter2", "port"),
        ("postgresql://u:hunter2 @h/d", "%20"),
        ("postgresql://u:hunter2\n@h/d", "%20"),
        ("postgresql://u:hunter2\0@h/d", "control character"),
        ("postgresql+asyncpg://u:hunter2@h/d", "driver"),
        ("postgresql+psycopg2://u:hunter2@h/d", "driver"),
        ("mysql://u:hunter2@h/d", "PostgreSQL or SQLite"),
        ("redis://u:hunter2@h/d", "PostgreSQL or SQLite"),
        ("https://u:hunter2@h/d", "PostgreSQL or SQLite"),
        ("sqlite://", "in memory"),
        ("sqlite://hunter2.db", "sqlite:///file.db"),
        ("sqlite:///hunter2?.db", "%3F"),
        ("sqlite:///hunter2%00.db", "control character"),
        ("sqlite:///hunter2%FF.db", "%25"),
        ("postgresql://u:5/hunter2?user=x@h/d", "%40"),
        ("postgresql://h:5/d?user=me@server&password=hunter2", "%40"),
        ("postgresql://u/x:hunter2@h/d", "%40"),
        ("postgresql://u:hunter2@h/%FF", "percent-encoded"),
        ("postgresql://u:hunter2@h/d?sslmode", "name=value"),
        ("postgresql://u:hunter2@h/d?ssl=false", "does not know, ssl"),
        ("postgresql://u:hunter2@[::1]x/d", "percent-encoded"),
        ("postgresql://u:hunter2@h1:1,h2:0/d", "port"),
        ("postgresql://u:hunter2@h1,a..b/d", "host name"),
        ("postgresql://u:hunter2@/d?port=x", "port"),
        ("postgresql://u:hunter2@/d?host=a,b&port=1,2,3", "as many ports"),
        ("postgresql://u:hunter2@a,b/d?hostaddr=::1", "addresses"),
        ("postgresql://u:hunter2@/d?hostaddr=::1,127.0.0.1&port=1,2,3", "as many ports"),
        ("postgresql:///?dbname=postgresql://u:hunter2@h/d", "another URL"),
        ("postgresql:///host=h%20password=hunter2", "another URL"),
        ("postgresql://u:hunter2@h/d?pgbouncer=true", "does not know, pgbouncer"),
        ("postgresql://u:p@h/d?hunter2=true", "does not know"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:hunter2?mode=memory&uri=true", "plain path"),
        ("sqlite:///shop.db?hunter2=1", "plain path"),
        ("sqlite://u:hunter2@h/d", "plain path"),
    ],
)
def test_a_url_that_means_nothing_is_refused_without_its_password(given: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_url(given, "SOME_SETTING")
    assert said in str(caught.value)
    assert "SOME_SETTING" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(
    st.sampled_from(["postgresql://", "postgres://", "postgresql+x://", "sqlite://", "", "a:"]),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_garbage_brings_a_password_out(scheme: str, before: str, after: str) -> None:
    try:
        read_url(f"{scheme}{before}hunter2{after}", "X")
    except InvalidInput as error:
        assert "hunter2" not in str(error)  # noqa: PT017 - whether it is raised is not the point


@given(st.text(max_size=10), st.text(max_size=10))
def test_a_password_that_is_not_encoded_is_never_taken_for_something_else(
    before: str, after: str
) -> None:
    url = f"postgresql://u:{before}hunter2{after}@127.0.0.1/d"
    try:
        location = find_database({}, option=url, directory=HERE)
    except InvalidInput as error:
        assert "hunter2" not in str(error)  # noqa: PT017
    else:
        assert "hunter2" not in location.shown
        assert location.url.host == "127.0.0.1"


def test_what_is_shown_has_no_password() -> None:
    location = find_database(
        {"DATABASE_URL": "postgresql://u:p%40ss@h:5433/d?password=other"}, directory=HERE
    )
    assert location.shown == "postgresql://u@h:5433/d"
    assert {"p@ss", "p%40ss", "other"} <= set(location.secrets)
    assert scrub("p@ss and p%40ss and other", location.secrets) == "*** and *** and ***"


def test_libpq_settings_are_shown_by_name() -> None:
    location = find_database({"PGHOST": "h", "PGDATABASE": "d", "PGPASSWORD": "x"}, directory=HERE)
    assert location.shown == "postgresql, PGHOST=h, PGDATABASE=d"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:p@[::1]:5433/d", "postgresql://u@[::1]:5433/d"),
        ("postgresql://u:p@[::1]/d", "postgresql://u@[::1]/d"),
        ("postgresql://u:p@%2Ftmp%2Fsocket/d", "postgresql://u@/tmp/socket/d"),
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://u@h1:1,h2:2/d"),
        ("postgresql://u:p@/d?host=/tmp/socket&port=5433", "postgresql://u@/tmp/socket:5433/d"),
        ("postgresql://u@/d", "postgresql://u@/d"),
        ("postgresql://", "postgresql"),
        ("postgresql://[::1]:5433,127.0.0.1:5434/d", "postgresql://[::1]:5433,127.0.0.1:5434/d"),
        ("postgresql://u@%2Ftmp%2Fa,h:2/d", "postgresql://u@/tmp/a,h:2/d"),
        ("postgresql:///d?host=a,::1&port=1,2", "postgresql://a:1,[::1]:2/d"),
        ("postgresql:///d?host=a,b&port=1", "postgresql://a:1,b:1/d"),
        ("postgresql:///d?hostaddr=::1,127.0.0.1&port=1,2", "postgresql://[::1]:1,127.0.0.1:2/d"),
        ("postgresql://h/d?hostaddr=127.0.0.1", "postgresql://h/d?hostaddr=127.0.0.1"),
        ("postgresql://u:p@h:1/d?host=x&port=2&dbname=e&user=v", "postgresql://v@x:2/e"),
        ("postgresql://u:p@?service=shop", "postgresql://u@/?service=shop"),
        ("postgresql:///d?service=shop&password=p", "postgresql:///d?service=shop"),
    ],
)
def test_a_server_is_shown_as_it_was_given(given: str, shown: str) -> None:
    assert Location(read_url(given, "X"), "X").shown == shown


AS_LIBPQ = [
    "postgresql://",
    "postgresql://u@",
    "postgresql://u@/db",
    "postgresql://u@/db?host=/sock",
    "postgresql://?service=shop",
    "postgresql:///db?service=shop&host=x",
    "postgresql://h1:1,h2:2/db",
    "postgresql://h1,h2:2",
    "postgresql://,h2:2/db",
    "postgresql://h1:1,h2:2?target_session_attrs=read-write",
    "postgresql:///db?host=a,b&port=1,2",
    "postgresql:///db?host=a,b&port=1",
    "postgresql:///db?host=::1,127.0.0.1&port=5,6",
    "postgresql:///db?hostaddr=127.0.0.1,::1&port=1,2",
    "postgresql://h/db?hostaddr=127.0.0.1",
    "postgresql://h:1/db?host=x&port=7&user=u&dbname=other",
    "postgresql://u:p@h/db?password=q",
    "postgresql://[::1]/db",
    "postgresql://[::1]:5433,127.0.0.1:5434/db",
    "postgresql://u:p@127.0.0.1:5434,[::1]/db",
    "postgresql://[fe80::1%25eth0]:5/db",
    "postgresql://u@%2Ftmp%2Fsocket:5433/db",
    "postgresql://u@%2ftmp%2fsocket,h:3/db",
    "postgresql://ex%61mple:/d%2Fb",
    "postgresql://u+x:p+y@h/d+b?application_name=a+b",
    "postgresql://h/d?application_name=a&application_name=b",
    "postgresql://u:p:q#r%3Fs?t@h/d#e",
    "postgresql://h/d?ssl=true",
    "postgresql://h/d?sslmode=",
    "postgresql://ü:p@h/%C3%BC?options=-c%20x%3Dy",
    "postgresql://h/d?user=me@server",
]


@pytest.mark.parametrize("text", AS_LIBPQ)
def test_a_url_is_read_as_libpq_reads_it(text: str) -> None:
    parameters = Location(read_url(text, "X"), "X").parameters
    assert parameters == conninfo_to_dict(text)
    for scheme in ("postgres", "POSTGRESQL", "postgresql+psycopg"):
        other = text.replace("postgresql", scheme, 1)
        assert Location(read_url(other, "X"), "X").parameters == parameters


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # libpq would read u as the host.
        (
            "postgresql://u:p/x%25@h/d",
            {"user": "u", "password": "p/x%", "host": "h", "dbname": "d"},
        ),
        # libpq would take the last host only.
        ("postgresql:///d?host=h1:1&host=h2:2", {"host": "h1,h2", "port": "1,2", "dbname": "d"}),
        (
            "postgresql://u:p@/d?host=/a/b&sslmode=require&host=[::1]:2",
            {
                "user": "u",
                "password": "p",
                "host": "/a/b,::1",
                "port": ",2",
                "dbname": "d",
                "sslmode": "require",
            },
        ),
    ],
)
def test_a_url_may_also_be_written_for_sqlalchemy(given: str, expected: dict[str, str]) -> None:
    assert Location(read_url(given, "X"), "X").parameters == expected
    if "[" not in given:
        dialect: Any = make_url(given.replace("postgresql", "postgresql+psycopg")).get_dialect()
        _, read = dialect().create_connect_args(make_url(given))
        assert {name: str(value) for name, value in read.items()} == expected


def test_the_directory_of_a_socket_may_be_longer_than_a_name_in_dns() -> None:
    directory = "/tmp/" + 70 * "x"
    assert read_url(f"postgresql://{quote(directory, safe='')}/d", "X").host == directory


@pytest.mark.parametrize(
    ("url", "environ", "shown"),
    [
        ("postgresql://u@/d", {"PGHOST": "h"}, "postgresql://u@/d, PGHOST=h"),
        ("postgresql://u@h/d", {"PGHOST": "x"}, "postgresql://u@h/d"),
        ("postgresql://h:1/d", {"PGHOSTADDR": "::1"}, "postgresql://h:1/d, PGHOSTADDR=::1"),
        ("postgresql://h:1/d", {"PGSERVICE": "shop"}, "postgresql://h:1/d, PGSERVICE=shop"),
        ("postgresql://", {"PGSERVICE": "shop"}, "postgresql, PGSERVICE=shop"),
        ("sqlite:///a.db", {"PGHOST": "h"}, "a.db"),
    ],
)
def test_what_libpq_adds_to_a_url_is_shown(url: str, environ: dict[str, str], shown: str) -> None:
    location = find_database({"PGPASSWORD": "hunter2", **environ}, option=url, directory=HERE)
    assert location.shown == shown
    assert ("hunter2" in location.secrets) == (location.path is None)


@pytest.mark.parametrize(
    "environ",
    [
        {"PGHOST": "postgresql://u:hunter2@h/d"},
        {"PGDATABASE": "host=h password=hunter2"},
        {"PGDATABASE": "postgresql://u:hunter2@h/d", "DATABASE_URL": "postgresql://h"},
    ],
)
def test_a_url_in_the_wrong_variable_is_refused_without_its_password(
    environ: dict[str, str],
) -> None:
    with pytest.raises(InvalidInput) as caught:
        find_database(environ, directory=HERE)
    assert "set DATABASE_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_is_the_one_that_was_named() -> None:
    assert read_url("sqlite:///what%3F.db", "X").database == "what?.db"
    assert read_url("sqlite:///100%.db", "X").database == "100%.db"
