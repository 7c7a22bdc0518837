"""The command, run as a process, as a person or a scheduler would."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chinook_sim.cli import cli
from chinook_sim.cli.context import CliContext
from chinook_sim.cli.options import Option
from chinook_sim.database.engine import open_connection
from chinook_sim.database.settings import find_database
from support.cases import cases, on_all_unmigrated_but_16, on_variants
from support.postgres_server import PASSWORD, Server, free_port
from support.processes import Popen, run, wait_for_cpu_time

if TYPE_CHECKING:
    from support.command import Command
    from support.databases import ChinookDatabase, DatabaseTemplates

COMMANDS = tuple(name for name in cli.commands if name != "profile")


def total(path: Path, statement: str = 'SELECT count(*) FROM "Invoice"') -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(statement).fetchone()[0])


def test_one_command_makes_a_shop_and_its_sales(command: Command, tmp_path: Path) -> None:
    done = command("generate", "10")
    assert done.returncode == 0
    assert "added 10 sales to chinook.db" in done.stdout
    assert "making chinook.db" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chinook.db"]
    assert total(tmp_path / "chinook.db") == 412 + 10
    assert command("verify", "--expect", "10").returncode == 0
    assert command("verify", "--all", "--expect", "422").returncode == 0


def test_first_runs_at_the_same_time_make_one_shop(tmp_path: Path) -> None:
    runs = [
        Popen(
            [sys.executable, "-m", "chinook_sim", "generate", "10"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in runs:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert [path.name for path in tmp_path.iterdir()] == ["chinook.db"]
    assert total(tmp_path / "chinook.db") == 412 + 30


def test_a_directory_that_does_not_exist_is_named(command: Command) -> None:
    done = command("init", "--database-url", "sqlite:///nowhere/shop.db")
    assert done.returncode == 3
    assert "nowhere/shop.db cannot be made: No such file or directory" in done.stderr


def test_the_second_run_adds_to_the_first(command: Command, stocked: Path) -> None:
    assert command("generate", "3").stderr == ""
    assert command("generate", "4").returncode == 0
    assert total(stocked) == 412 + 7


@on_all_unmigrated_but_16
def test_every_shape_takes_a_batch_by_command(command: Command, shop: ChinookDatabase) -> None:
    before = shop.value("SELECT count(*) FROM [Invoice]")
    environment = {"CHINOOK_SIM_DATABASE_URL": shop.text}
    done = command("generate", "25", "--json", "--day", "2026-01-31", "--seed", "7", **environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sales"] == 25
    assert shop.value("SELECT count(*) FROM [Invoice]") == before + 25
    told_lines = shop.value(
        f"SELECT count(*) FROM [InvoiceLine] WHERE [InvoiceId] BETWEEN {told['first_invoice']} "
        f"AND {told['last_invoice']}"
    )
    assert told_lines == told["lines"]
    verified = command("verify", "--day", "2026-01-31", "--expect", "25", **environment)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize(
    ("given", "status"),
    [("10", 0), ("  7\n", 0), ("0", 0), ("5 3", 2), ("", 2), ("\n", 2), ("-1", 2), ("1e3", 2),
     ("٣", 2), ("1_000", 2), ("1.0", 2), ("+5", 2), ("0x10", 2), ("9" * 20, 2), ("2147483648", 2),
     ("ten", 2), (b"\xff\xfe", 2), (b"5\x00", 2), (b"1" * 100_000, 2)],
)  # fmt: skip
def test_the_number_of_sales_may_come_from_standard_input(
    command: Command, stocked: Path, given: str | bytes, status: int
) -> None:
    done = command("generate", stdin=given if isinstance(given, bytes) else given.encode())
    assert done.returncode == status
    if status:
        assert len(done.stderr.splitlines()) == 1
        assert "number of sales" in done.stderr
        assert total(stocked) == 412
    else:
        assert total(stocked) == 412 + int(given)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-1"], "No such option"),
        (["1e3"], "must be an integer between"),
        (["٣"], "must be an integer between"),
        (["1_000"], "must be an integer between"),
        ([""], "is missing"),
        (["5", "2"], "unexpected extra argument"),
        (["9" * 20], "must be an integer between"),
        (["5", "--day", "2026-02-30"], "is not a day"),
        (["5", "--day", "20260131"], "is not a day"),
        (["5", "--day", "٢٠٢٦-٠١-٣١"], "is not a day"),
        (["5", "--day", "9999-12-31"], "too late"),
        (["5", "--seed", "-1"], "seed"),
        (["5", "--seed", "9223372036854775808"], "seed"),
        (["5", "--timezone", "Mars/Phobos"], "time zone"),
        (["5", "--timezone", "../etc/passwd"], "time zone"),
        (["5", "--bogus"], "No such option"),
        (["5", "--database-url", "nonsense"], "look like postgresql://"),
        (["5", "--database-url", "mysql://u:hunter2@h/d"], "use PostgreSQL or SQLite"),
        (["5", "--database-url", "postgresql://u:hunter2@h:x/d"], "percent-encoded"),
        (["5", "--database-url", "postgresql://h:hunter2/d"], "percent-encoded"),
        (["5", "--database-url", "postgresql://u:hun@ter2@h/d"], "%40"),
        (["5", "--database-url", "sqlite://"], "in memory"),
    ],
)
def test_wrong_usage_is_one_line_and_changes_nothing(
    command: Command, stocked: Path, arguments: list[str], said: str
) -> None:
    done = command("generate", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr
    assert "ter2" not in done.stderr
    assert total(stocked) == 412


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("verify --profile realistic", "--profile needs --shape"),
        ("init --from x.sqlite --scale 2", "--from and --scale cannot be combined"),
        ("undo --backfill 2026-01-31", "see `chinook-sim undo --help`"),
        ("undo --bogus", "see `chinook-sim undo --help`"),
    ],
)
def test_options_that_need_or_exclude_others_are_refused(
    command: Command, arguments: str, said: str
) -> None:
    done = command(*arguments.split())
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_verify_may_have_the_profile_of_generate_in_its_environment(
    command: Command, stocked: Path
) -> None:
    done = command("verify", "--expect", "0", CHINOOK_SIM_PROFILE="realistic")
    assert done.returncode == 0, done.stderr


def test_a_source_may_be_given_with_a_scale_in_the_environment(
    command: Command, stocked: Path
) -> None:
    copy = ("--database-url", "sqlite:///copy.db")
    done = command("init", "--from", stocked.name, *copy, CHINOOK_SIM_SCALE="2")
    assert done.returncode == 0, done.stderr
    assert "is a copy of the given Chinook" in done.stdout


def test_a_mistyped_path_makes_no_file(command: Command, tmp_path: Path) -> None:
    done = command("generate", "5", "--database-url", "sqlite:///shpo.db")
    assert done.returncode == 3
    assert "there is no file shpo.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_refused_and_left_alone(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "chinook.db"
    path.write_text("my precious notes\n" * 100)
    for arguments in (["generate", "5"], ["init"], ["verify"], ["status"]):
        done = command(*arguments)
        assert done.returncode == 3, done.stderr
        assert "chinook.db" in done.stderr
        assert "not a database" in done.stderr
    assert path.read_text() == "my precious notes\n" * 100


def test_what_is_no_chinook_is_refused_by_name(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "chinook.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name)")
    before = path.read_bytes()
    for name in ("generate", "init"):
        done = command(name, *(["5"] if name == "generate" else []))
        assert done.returncode == 3, done.stderr
    assert "it has recipes" in done.stderr
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_shop(command: Command, tmp_path: Path) -> None:
    (tmp_path / "chinook.db").touch()
    assert command("init").returncode == 0
    assert total(tmp_path / "chinook.db") == 412


@on_all_unmigrated_but_16
def test_init_leaves_a_chinook_as_it_is(command: Command, shop: ChinookDatabase) -> None:
    before = shop.snapshot()
    done = command("init", "--json", CHINOOK_SIM_DATABASE_URL=shop.text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == "nothing"
    assert shop.snapshot() == before
    if shop.shape.gives_ids:
        shop.insert_by_default()


def test_init_fills_an_empty_postgresql(command: Command, server: Server) -> None:
    url = server.url(server.create_database()).render_as_string(hide_password=False)
    done = command("init", "--json", DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["made"], told["customers"], told["tracks"]) == ("stand-in", 59, 3503)
    assert command("generate", "20", DATABASE_URL=url).returncode == 0
    assert command("verify", "--expect", "20", DATABASE_URL=url).returncode == 0
    assert command("verify", "--all", "--expect", "432", DATABASE_URL=url).returncode == 0


def test_init_refuses_a_postgresql_that_is_somebody_elses(command: Command, server: Server) -> None:
    database = server.create_database()
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE payroll (name text)")
    url = server.url(database).render_as_string(hide_password=False)
    done = command("init", DATABASE_URL=url)
    assert done.returncode == 3
    assert "it has payroll" in done.stderr
    with server.connect(database) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert names.fetchall() == [("payroll",)]


def test_a_locked_file_is_refused(command: Command, stocked: Path) -> None:
    with closing(sqlite3.connect(stocked, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = command("generate", "5", "--lock-timeout", "1")
        other.execute("ROLLBACK")
    assert done.returncode == 4, done.stderr
    assert "another program is writing" in done.stderr
    assert total(stocked) == 412


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write to any file")
def test_a_read_only_file_is_refused(command: Command, stocked: Path) -> None:
    stocked.chmod(0o444)
    stocked.parent.chmod(0o555)
    done = command("generate", "5")
    assert done.returncode == 4, done.stderr
    assert "writable" in done.stderr


@on_variants([case for case in cases() if case.major == 18])
def test_a_role_that_may_only_read_is_refused(command: Command, shop: ChinookDatabase) -> None:
    assert shop.server is not None
    role = f"reader_{shop.url.database}"
    shop.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    url = shop.server.url(shop.url.database or "", user=role, password="x")
    before = shop.snapshot()
    done = command("generate", "5", DATABASE_URL=url.render_as_string(hide_password=False))
    shop.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert done.returncode == 4, done.stderr
    assert "permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert shop.snapshot() == before


def test_an_unreachable_server_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a second attempt.
    defaults = open_connection.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "timeout", 1)
    url = f"postgresql://shop:hunter2@127.0.0.1:{free_port()}/chinook"
    done = command("generate", "5", DATABASE_URL=url)
    assert done.returncode == 3
    assert "waiting for" in done.stderr
    assert "refused" in done.stderr.splitlines()[-1]
    assert "check DATABASE_URL, and that the server is running" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"password": "hunter2"}, "password authentication failed"),
     ({"database": "nowhere"}, "does not exist")],
)  # fmt: skip
def test_a_refusal_is_not_waited_for(
    command: Command, server: Server, wrong: dict[str, str], said: str
) -> None:
    url = server.url(**{"database": "postgres", **wrong})
    done = command("generate", "5", DATABASE_URL=url.render_as_string(hide_password=False))
    assert done.returncode == 3
    assert said in done.stderr
    assert "check DATABASE_URL" in done.stderr
    # It answered.
    assert "server is running" not in done.stderr
    assert "waiting" not in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
@pytest.mark.slow(reason="waits for processes")
def test_an_interrupted_batch_leaves_nothing(
    stocked: Path, templates: DatabaseTemplates, number: signal.Signals, place: str
) -> None:
    url = f"sqlite:///{stocked}"
    if place == "postgresql":
        server = templates.server(18)
        database = server.create_database()
        url = server.url(database).render_as_string(hide_password=False)
    base = [sys.executable, "-m", "chinook_sim"]
    environment = {**os.environ, "DATABASE_URL": url}
    if place == "postgresql":
        run([*base, "init", "-q"], env=environment, check=True)
    # Millions of sales take long enough for a signal to come in the middle.
    with Popen(
        [*base, "generate", "3000000"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # It is making sales by then.
        wait_for_cpu_time(process.pid, 1)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "interrupted; nothing was written" in errors
    assert "Traceback" not in errors
    assert PASSWORD not in errors
    if place == "postgresql":
        with server.connect(database) as connection:
            assert connection.execute('SELECT count(*) FROM "Invoice"').fetchone() == (412,)
        server.drop_database(database)
    else:
        assert total(stocked) == 412


def test_a_dry_run_reports_what_a_run_would_do(command: Command, stocked: Path) -> None:
    wanted = ["generate", "9", "--seed", "7", "--json"]
    dry = json.loads(command(*wanted, "--dry-run").stdout)
    assert total(stocked) == 412
    wet = json.loads(command(*wanted).stdout)
    for key in ("day", "sales", "lines", "revenue", "seed", "digest", "hours"):
        assert dry[key] == wet[key]


def test_a_batch_of_changes_alone_adds_no_sales(command: Command, stocked: Path) -> None:
    assert command("generate", "5", "--day", "2026-01-31").returncode == 0
    done = command("generate", "0", "--moves", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("changed chinook.db\n")
    assert "changes  2 moves" in done.stdout
    assert not {"sales", "average", "hours"} & {*done.stdout.split()}


def test_options_may_come_from_the_environment_and_from_dotenv(
    command: Command, stocked: Path
) -> None:
    (stocked.parent / ".env").write_text("CHINOOK_SIM_SEED=11\nCHINOOK_SIM_DAY=2026-01-31\n")
    told = json.loads(command("generate", "2", CHINOOK_SIM_JSON="1", CHINOOK_SIM_SEED="12").stdout)
    assert (told["seed"], told["day"]) == (12, "2026-01-31")


@pytest.mark.parametrize("contents", [b"\xff\xfe\x00", b"DATABASE_URL=sqlite://\x00"])
def test_a_broken_dotenv_is_one_line(command: Command, stocked: Path, contents: bytes) -> None:
    (stocked.parent / ".env").write_bytes(contents)
    done = command("status")
    assert done.returncode in (0, 2)
    assert len(done.stderr.splitlines()) <= 1


def test_quiet_says_nothing_and_verbose_says_where(command: Command, stocked: Path) -> None:
    quiet = command("generate", "2", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert "chinook.db (from the default)" in command("-v", "generate", "2").stderr


def test_verify_fails_where_something_is_wrong(command: Command, stocked: Path) -> None:
    assert command("generate", "20", "--day", "2026-01-31").returncode == 0
    with closing(sqlite3.connect(stocked)) as connection, connection:
        connection.execute('UPDATE "Invoice" SET "Total" = "Total" + 1 WHERE "InvoiceId" = 415')
    done = command("verify", "--day", "2026-01-31")
    assert done.returncode == 1
    assert re.search(r"FAILED +totals equal the sum of their lines +1 ", done.stdout)
    assert re.search(r"\n2 of \d+ checks failed", done.stdout)
    assert "1 sale with another total (invoice 415)" in done.stdout
    told = json.loads(command("verify", "--day", "2026-01-31", "--json").stdout)
    assert told["passed"] is False
    assert command("verify", "--day", "2010-02-01").returncode == 1
    assert command("verify", "--day", "2010-02-01", "--expect", "0").returncode == 0


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    ("output", "said"),
    [("/dev/full", "done, but the result could not be printed"), (None, "done, but")],
    ids=["full", "closed"],
)
def test_what_is_done_is_done_where_it_cannot_be_printed(
    stocked: Path, output: str | None, said: str, form: tuple[str, ...]
) -> None:
    before = total(stocked)
    command = [sys.executable, "-m", "chinook_sim", "generate", "5", *form]
    if output is None:
        # Python itself must be started without it.
        shell = ["sh", "-c", f"exec {shlex.join(command)} >&-"]
        done = subprocess.run(shell, cwd=stocked.parent, capture_output=True, check=False)
    else:
        with Path(output).open("wb") as full:
            done = run(command, cwd=stocked.parent, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert total(stocked) == before + 5


def test_a_character_that_the_output_has_not_is_escaped(process: Command, stocked: Path) -> None:
    environment = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    done = process("generate", "5", "--key", "日本", "--json", cwd=stocked.parent, **environment)
    assert done.returncode == 0, done.stderr
    assert "\\u65e5" in done.stdout


def test_an_error_that_nobody_can_read_keeps_its_exit_status(stocked: Path) -> None:
    command = [sys.executable, "-m", "chinook_sim", "generate", "x"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=stocked.parent, stderr=full, check=False)
    assert done.returncode == 2


def test_a_signal_after_the_commit_takes_nothing_back(stocked: Path) -> None:
    before = total(stocked)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    # Python's own standard output, which no fork has.
    process = subprocess.Popen(
        [sys.executable, "-m", "chinook_sim", "generate", "5", "--json"],
        cwd=stocked.parent,
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    until = time.monotonic() + 60
    while total(stocked) == before:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.2)  # it stands before the full pipe now, or will be told before it does
    process.terminate()
    _, errors = process.communicate(timeout=60)
    os.close(reading)
    assert process.returncode == 0, errors
    assert b"nothing was written" not in errors
    assert total(stocked) == before + 5


def test_waiting_for_a_file_can_be_interrupted(stocked: Path) -> None:
    with closing(sqlite3.connect(stocked, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        process = Popen(
            [
                *(sys.executable, "-m", "chinook_sim", "generate", "5"),
                *("--lock-timeout", "0", "-v", "--json"),
            ],
            cwd=stocked.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        while b"connected to" not in process.stderr.readline():
            pass
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().count(b"\n") == 0
    error = json.loads(output)["error"]
    assert (error["kind"], error["exit_status"]) == ("interrupted", 130)


def test_notices_on_stderr_hide_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    settings = CliContext(
        location=find_database({}, option="postgresql://me:s3cr3t@host/shop", directory=Path())
    )
    settings.say("trying again: the server said s3cr3t\nand more")
    assert capsys.readouterr().err == "trying again: the server said *** and more\n"


def test_a_reader_that_goes_away_is_no_failure(stocked: Path) -> None:
    line = f'"{sys.executable}" -m chinook_sim generate 5; echo "status $?" >&2'
    done = subprocess.run(
        ["bash", "-c", f"({line}) | true"],
        cwd=stocked.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "status 0\n"
    assert total(stocked) == 417


@pytest.mark.parametrize("group", [(), ("profile",)])
def test_a_group_without_a_command_shows_its_help(command: Command, group: tuple[str, ...]) -> None:
    done = command(*group)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == command(*group, "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    # The variables are explained once, below the options.
    assert "CHINOOK_SIM_" not in " ".join(lines[:-2])
    for parameter in cli.commands[name].params:
        if isinstance(parameter, Option):
            assert parameter.help
            # What is to be undone is never taken from the environment.
            selecting = name == "undo" and parameter.name in ("key", "day", "backfill")
            variable = f"CHINOOK_SIM_{parameter.opts[0][2:].replace('-', '_').upper()}"
            assert parameter.envvar == (None if selecting else variable)
            if isinstance(parameter.default, str | int) and not parameter.is_flag:
                assert f"[default: {parameter.default}]" in re.sub(r"\s+", " ", done.stdout)
