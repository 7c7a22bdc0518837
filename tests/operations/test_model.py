"""A shop under everything that is ever done to it, in any order, next to a plain model of it.

The model is a few dictionaries. It is told what each step says it did, sees in the tables that just
that was done and nothing else, and foretells which runs can be undone and what is there afterwards.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.orm import Session

from chinook_sim import (
    KeyTaken,
    UndoRefused,
    align,
    backfill,
    generate_d1,
    live,
    simulate_changes,
    undo,
)
from chinook_sim.database.clock import d1
from chinook_sim.sampling.arrivals import CANCELLATION, SALE, UPDATE, Arrivals
from chinook_sim.verification import verify_all, verify_day
from support.cases import VARIANTS, alternating_versions, parameters

if TYPE_CHECKING:
    from chinook_sim.sales.summary import BatchSummary
    from support.cases import DatabaseVariant
    from support.databases import ChinookDatabase, DatabaseTemplates

TODAY = date(2026, 1, 31)
WINDOW = timedelta(days=90)
HISTORY = 30

Row = tuple[Any, ...]
Sale = tuple[Row, tuple[Row, ...]]
"""A row of Invoice, but for its date, and the rows of its lines."""


@dataclass
class State:
    """What is in the tables, by id."""

    sales: dict[int, Sale]
    dates: dict[int, datetime]
    customers: dict[int, Row]
    prices: dict[int, int]

    @classmethod
    def of(cls, shop: ChinookDatabase) -> State:
        lines: dict[int, list[Row]] = {}
        for line in shop.rows(
            "SELECT [InvoiceId], [InvoiceLineId], [TrackId], "
            "CAST(round([UnitPrice] * 100) AS INTEGER), [Quantity] FROM [InvoiceLine] ORDER BY 2"
        ):
            lines.setdefault(line[0], []).append(tuple(line[1:]))
        sales, dates = {}, {}
        for number, moment, cents, *rest in shop.rows(
            "SELECT [InvoiceId], [InvoiceDate], CAST(round([Total] * 100) AS INTEGER), "
            "[CustomerId], [BillingAddress], [BillingCity], [BillingState], [BillingCountry], "
            "[BillingPostalCode] FROM [Invoice]"
        ):
            sales[number] = ((cents, *rest), tuple(lines.pop(number)))
            dates[number] = datetime.fromisoformat(str(moment))
        assert not lines
        customers = {
            row[0]: tuple(row[1:]) for row in shop.rows("SELECT * FROM [Customer] ORDER BY 1")
        }
        prices = dict(
            shop.rows("SELECT [TrackId], CAST(round([UnitPrice] * 100) AS INTEGER) FROM [Track]")
        )
        return cls(sales, dates, customers, prices)

    def copy(self) -> State:
        return State(dict(self.sales), dict(self.dates), dict(self.customers), dict(self.prices))


@dataclass
class Run:
    """What one run did: ids, and what was before and after."""

    made: dict[int, tuple[Sale, datetime]] = field(default_factory=dict)
    updated: dict[int, tuple[Sale, Sale]] = field(default_factory=dict)
    cancelled: dict[int, tuple[Sale, datetime]] = field(default_factory=dict)
    newcomers: dict[int, Row] = field(default_factory=dict)
    moved: dict[int, tuple[Row, Row]] = field(default_factory=dict)
    priced: dict[int, tuple[int, int]] = field(default_factory=dict)
    aligned: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)
    gone: dict[int, Sale] = field(default_factory=dict)
    """What it made and cancelled itself, as it was when it went."""

    def then(self, later: Run) -> Run:
        """Return this and a later transaction of the same stream as one run."""
        run = Run(self.made | later.made, dict(self.updated), dict(self.cancelled))
        run.gone = dict(self.gone)
        for number, (before, after) in later.updated.items():
            if number in run.made:
                run.made[number] = after, run.made[number][1]
            else:
                run.updated[number] = run.updated.get(number, (before, after))[0], after
        for number, (before, moment) in later.cancelled.items():
            if number in run.made:
                del run.made[number]
                run.gone[number] = before
            else:
                first, _ = run.updated.pop(number, (before, before))
                run.cancelled[number] = first, moment
        return run


class ShopMachine(RuleBasedStateMachine):
    """Does anything to a shop, and knows what must come of it."""

    templates: ClassVar[DatabaseTemplates]
    case: ClassVar[DatabaseVariant]

    @initialize()
    def open(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.shop = self.templates.copy(self.case, self.directory)
        self.state = State.of(self.shop)
        self.runs: dict[str, Run] = {}
        self.keys: dict[date, tuple[str, int]] = {}
        self.days: set[date] = set()
        self.align_run: str | None = None
        self.seed = 0

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.shop.close()
            shutil.rmtree(self.directory)

    # --- what can be done ------------------------------------------------------------------------

    @rule(
        n=st.integers(0, 12),
        back=st.sampled_from([0, 0, 1, 30, 89, 100]),
        changes=st.fixed_dictionaries(
            {
                "updates": st.integers(0, 6),
                "cancellations": st.integers(0, 5),
                "new_customers": st.integers(0, 2),
                "moves": st.integers(0, 3),
                "price_changes": st.integers(0, 4),
            }
        ),
        late=st.sampled_from([0, 0, 0.25, 1]),
        sales=st.booleans(),
    )
    def generate(
        self, n: int, back: int, changes: dict[str, int], late: float, sales: bool
    ) -> None:
        day = TODAY - timedelta(days=back)
        self.seed += 1
        wanted: dict[str, Any] = dict(changes)
        with Session(self.shop.engine) as session, session.begin():
            if sales:
                made = generate_d1(
                    session,
                    n,
                    day=day,
                    seed=self.seed,
                    late=late,
                    **wanted,
                )
            else:
                made = simulate_changes(session, day=day, seed=self.seed, **wanted)
        assert made.count == (n if sales else 0)
        self.took_place(made, changes)

    @rule(n=st.integers(0, 5), back=st.integers(0, 6))
    def generate_once(self, n: int, back: int) -> None:
        day = TODAY - timedelta(days=back)
        self.seed += 1
        before = self.state
        with Session(self.shop.engine) as session, session.begin():
            if day in self.keys and self.keys[day][1] != n:
                with pytest.raises(KeyTaken), session.begin_nested():
                    generate_d1(session, n, day=day, once=True)
                return
            made = generate_d1(session, n, day=day, once=True)
        assert made.existed == (day in self.keys)
        if made.existed:
            assert made.run_id == self.keys[day][0]
            assert State.of(self.shop) == before
        else:
            self.took_place(made, {})
            self.keys[day] = str(made.run_id), n

    @rule(first=st.integers(0, 8), length=st.integers(0, 4), per_day=st.integers(0, 4))
    def fill(self, first: int, length: int, per_day: int) -> None:
        start = TODAY - timedelta(days=first + length)
        end = TODAY - timedelta(days=first)
        for made in backfill(self.shop.engine, start, end, per_day):
            assert made.existed == (made.day in self.keys)
            if made.existed:
                assert (made.run_id, made.count) == self.keys[made.day]
            else:
                assert made.count == per_day
                self.took_place(made, {})
                self.keys[made.day] = str(made.run_id), per_day

    @rule(
        count=st.integers(1, 3),
        mix=st.sampled_from([(1, 0, 0), (2, 1, 1), (0, 1, 2)]),
        merged=st.booleans(),
    )
    def sell_now(self, count: int, mix: tuple[int, int, int], merged: bool) -> None:
        self.seed += 1
        expected = Arrivals(self.seed, 400.0, mix)
        stop = threading.Event()
        stream = live(self.shop.engine, 400, seed=self.seed, mix=mix, stop=stop)
        keys = {}
        for batch in islice(stream, count):
            keys[str(batch.made.key)] = str(batch.made.run_id)
            kinds = [it.kind for it in expected.until(math.inf, batch.arrivals)]
            expected.pass_over(batch.arrivals)
            assert batch.made.count == kinds.count(SALE)
            asked = {"updates": kinds.count(UPDATE), "cancellations": kinds.count(CANCELLATION)}
            self.took_place(batch.made, asked)
        if merged:
            stop.set()
            assert list(stream) == []
            self.were_merged(keys)
        stream.close()

    def were_merged(self, keys: dict[str, str]) -> None:
        """Let the runs of a stream's transactions be those that the ledger has of it now."""
        name = next(iter(keys)).split("/")[0]
        # More than one if midnight came.
        rows = self.shop.rows(
            f"SELECT key, run_id FROM chinook_sim_run WHERE key LIKE '{name}/%' ORDER BY key"
        )
        ends, run = dict(rows), Run()
        for key, run_id in keys.items():
            run = run.then(self.runs.pop(run_id))
            if key in ends:
                self.runs[ends[key]], run = run, Run()

    @rule()
    def move_history(self) -> None:
        with Session(self.shop.engine) as session, session.begin():
            target = d1(session.connection()) - timedelta(days=1)
            moved = align(session)
        if self.align_run is not None:
            assert moved.existed
            assert State.of(self.shop) == self.state
            return
        history = {
            number: self.state.dates[number] for number in self.state.sales if number <= HISTORY
        }
        assert moved.run_id is not None or not history or moved.days == 0
        if moved.run_id is None:
            return
        assert moved.invoices == len(history)
        assert max(history.values()).date() + timedelta(days=moved.days) == target
        run = Run(
            aligned={
                number: (then, then + timedelta(days=moved.days))
                for number, then in history.items()
            }
        )
        self.state.dates |= {number: after for number, (_, after) in run.aligned.items()}
        self.align_run = moved.run_id
        self.runs[moved.run_id] = run

    @rule(which=st.integers(0, 10**6))
    def take_back(self, which: int) -> None:
        # No precondition: what a live shop does depends on the clock, and what is drawn must not.
        if not self.runs:
            return
        name = list(self.runs)[which % len(self.runs)]
        run = self.runs[name]
        allowed = self.can_be_undone(run)
        with Session(self.shop.engine) as session, session.begin():
            if not allowed:
                with pytest.raises(UndoRefused), session.begin_nested():
                    undo(session, name)
                return
            undo(session, name)
        self.undo(name)

    @rule(
        which=st.integers(0, 10**6),
        way=st.sampled_from(["a day", "a stream", "a backfill"]),
        back=st.integers(0, 8),
        length=st.integers(0, 4),
    )
    def take_back_together(self, which: int, way: str, back: int, length: int) -> None:
        end = TODAY - timedelta(days=back)
        selected: dict[str, Any] = {"backfill": (end - timedelta(days=length), end)}
        rows = self.shop.rows("SELECT run_id, day, key FROM chinook_sim_run WHERE kind <> 'align'")
        if way == "a day":
            selected = {"day": end}
            chosen = [it[0] for it in rows if str(it[1]) == str(end)]
        elif way == "a stream":
            names = [it[2].split("/")[0] for it in rows if (it[2] or "").startswith("live-")]
            if not names:
                return
            name = names[which % len(names)]
            selected = {"run": name}
            chosen = [it[0] for it in rows if (it[2] or "").startswith(name)]
        else:
            first, _ = selected["backfill"]
            chosen = [name for day, (name, _) in self.keys.items() if first <= day <= end]
        active = [name for name in reversed(self.runs) if name in set(chosen)]
        if not active:
            return
        # What can be undone together is what can be undone one by one, the latest first.
        before = self.state, dict(self.runs), dict(self.keys)
        allowed = True
        for name in active:
            allowed = allowed and self.can_be_undone(self.runs[name])
            if allowed:
                self.undo(name)
        if not allowed:
            self.state, self.runs, self.keys = before
        with Session(self.shop.engine) as session, session.begin():
            if not allowed:
                with pytest.raises(UndoRefused), session.begin_nested():
                    undo(session, **selected)
            else:
                assert set(undo(session, **selected).runs) == set(active)

    # --- what must come of it --------------------------------------------------------------------

    def took_place(self, made: BatchSummary, asked: dict[str, int]) -> None:
        """See that a batch did what it says, and nothing else."""
        before, after = self.state, State.of(self.shop)
        run = Run()
        new = sorted(after.sales.keys() - before.sales.keys())
        assert new == sorted(made.invoice_ids)
        # Never an id that any run ever touched and that is gone.
        assert not set(new) & {
            number for run in self.runs.values() for number in run.cancelled | run.gone
        }
        gone = before.sales.keys() - after.sales.keys()
        kept = before.sales.keys() & after.sales.keys()
        changed = {number for number in kept if before.sales[number] != after.sales[number]}
        assert all(before.dates[number] == after.dates[number] for number in kept)
        candidates = {
            number
            for number in before.sales
            if made.day - WINDOW <= before.dates[number].date() <= made.day
        }
        assert gone | changed <= candidates
        assert (
            len(gone) == made.cancellations == min(asked.get("cancellations", 0), len(candidates))
        )
        possible = {
            number
            for number in candidates - gone
            if len(before.sales[number][1]) < len(before.prices)
        }
        assert len(changed) == made.updates == min(asked.get("updates", 0), len(possible))
        for number in changed:
            (_, *was), old = before.sales[number]
            (cents, *now), lines = after.sales[number]
            assert now == was
            assert lines[:-1] == old
            (_, track, price, quantity) = lines[-1]
            assert track not in {line[1] for line in old}
            assert (price, quantity) == (after.prices[track], 1)
            assert cents == sum(line[2] * line[3] for line in lines)
            small = [n for n in possible if len(before.sales[n][1]) < 5]
            assert len(old) < 5 or set(small) <= changed
        signed = after.customers.keys() - before.customers.keys()
        assert len(signed) == made.new_customers == asked.get("new_customers", 0)
        assert not before.customers.keys() - after.customers.keys()
        moved = {it for it in before.customers if before.customers[it] != after.customers[it]}
        assert len(moved) == made.moves == min(asked.get("moves", 0), len(before.customers))
        priced = {it for it in before.prices if before.prices[it] != after.prices[it]}
        assert (
            len(priced)
            == made.price_changes
            == min(asked.get("price_changes", 0), len(before.prices))
        )
        late = 0
        for number in new:
            (cents, customer, *billed), lines = after.sales[number]
            row = after.customers[customer]
            assert tuple(billed) == row[3:8]
            assert 1 <= len(lines) <= 5
            assert len({line[1] for line in lines}) == len(lines)
            assert all(line[2:] == (after.prices[line[1]], 1) for line in lines)
            assert cents == sum(line[2] for line in lines)
            back = (made.day - after.dates[number].date()).days
            assert 0 <= back <= 7
            late += back > 0
        assert late == made.late
        assert made.revenue * 100 == sum(after.sales[number][0][0] for number in new)
        run.made = {number: (after.sales[number], after.dates[number]) for number in new}
        run.updated = {it: (before.sales[it], after.sales[it]) for it in changed}
        run.cancelled = {it: (before.sales[it], before.dates[it]) for it in gone}
        run.newcomers = {it: after.customers[it] for it in signed}
        run.moved = {it: (before.customers[it], after.customers[it]) for it in moved}
        run.priced = {it: (before.prices[it], after.prices[it]) for it in priced}
        assert made.run_id is not None
        self.runs[made.run_id] = run
        self.days.add(made.day)
        self.state = after

    def can_be_undone(self, run: Run) -> bool:
        """Foretell whether all is as a run left it, and nothing depends on it."""
        now = self.state
        if run.aligned:
            return all(now.dates.get(it) == after for it, (_, after) in run.aligned.items())
        as_made = all(
            now.sales.get(it) == sale and now.dates[it] == moment
            for it, (sale, moment) in run.made.items()
        )
        others = [other for other in self.runs.values() if other is not run]
        rest = {it: sale for it, sale in now.sales.items() if it not in run.made}
        owners = [sale[0][1] for sale in rest.values()]
        owners += [sale[0][1] for other in others for sale, _ in other.cancelled.values()]
        owners += [sale[0][1] for other in others for sale in other.gone.values()]
        history = {it for it in run.cancelled if it <= HISTORY}
        missed = self.align_run is not None and history - self.runs[self.align_run].aligned.keys()
        return (
            as_made
            and not missed
            and all(now.sales.get(it) == after for it, (_, after) in run.updated.items())
            and not run.cancelled.keys() & now.sales.keys()
            and all(now.customers.get(it) == after for it, after in run.newcomers.items())
            and not run.newcomers.keys() & set(owners)
            and all(now.customers.get(it) == after for it, (_, after) in run.moved.items())
            and all(now.prices.get(it) == after for it, (_, after) in run.priced.items())
        )

    def undo(self, name: str) -> None:
        """Do in the model what undoing a run does in the shop."""
        run = self.runs.pop(name)
        self.keys = {day: key for day, key in self.keys.items() if key[0] != name}
        if name == self.align_run:
            self.align_run = None
        state = self.state.copy()
        for number in run.made:
            del state.sales[number], state.dates[number]
        for number, (sale, moment) in run.cancelled.items():
            state.sales[number], state.dates[number] = sale, moment
        state.sales |= {number: before for number, (before, _) in run.updated.items()}
        for number in run.newcomers:
            del state.customers[number]
        state.customers |= {number: before for number, (before, _) in run.moved.items()}
        state.prices |= {number: before for number, (before, _) in run.priced.items()}
        state.dates |= {number: before for number, (before, _) in run.aligned.items()}
        self.state = state

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def the_tables_are_what_the_model_is(self) -> None:
        if hasattr(self, "shop"):
            assert State.of(self.shop) == self.state

    @invariant()
    def the_ledger_agrees(self) -> None:
        if not hasattr(self, "shop"):
            return
        noted = self.shop.rows(
            "SELECT run_id, sales FROM chinook_sim_run "
            "WHERE kind <> 'baseline' AND undone_at IS NULL"
        )
        expected = {
            name: len(run.made) + len(run.gone) + len(run.aligned)
            for name, run in self.runs.items()
        }
        assert dict(noted) == expected

    @invariant()
    def every_check_passes(self) -> None:
        if not hasattr(self, "shop"):
            return
        with self.shop.engine.connect() as connection:
            checks = verify_all(connection)
            # A day all of whose sales were undone has none.
            for day in self.days:
                checks += verify_day(connection, day)[1:]
        assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    "case",
    parameters(
        [
            *alternating_versions(migrated=True),
            VARIANTS["sqlite-tutorial-migrated"],
            VARIANTS["postgres-lower-pg18-migrated"],
        ]
    ),
)
def test_any_sequence_of_operations_matches_the_model(
    templates: DatabaseTemplates, case: DatabaseVariant, pytestconfig: pytest.Config
) -> None:
    steps = pytestconfig.getoption("--steps")
    machine = type("Machine", (ShopMachine,), {"templates": templates, "case": case})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(steps // 25, 1),
            stateful_step_count=25,
            # The same steps every time, unless many are asked for.
            derandomize=steps <= 200,
            suppress_health_check=list(HealthCheck),
            # Making a failure smaller takes minutes; it is told with its steps as it is.
            phases=(Phase.generate,),
            database=None,
        ),
    )
