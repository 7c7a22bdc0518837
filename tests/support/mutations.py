"""What a person might change by hand, and which checks of `verify` must say so."""

from __future__ import annotations

from support.mutation_statements import (
    ALIGNED,
    BILLING,
    CANCELLED,
    COPIES,
    COSTS,
    CUSTOMER,
    CUSTOMERS,
    DISTINCT,
    INVOICE,
    LEDGER,
    MADE,
    ONE_OF_EACH,
    PRICES,
    SECONDS,
    SOME,
    TOTALS,
    TRACK,
    TRACKS,
    UNDONE,
    UPDATED,
    Wrong,
    add,
    change,
    copy,
    correct,
    delete,
    first,
    line,
    ranges,
    renumber,
    run,
    swap,
)

WRONG = {
    # Sales and lines that are gone, added, or not what was sold.
    "a sale is deleted": Wrong(delete(), first("missing")),
    "all lines of a sale are deleted": Wrong(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceId] = {sale}",
        {"first": {"lines_missing": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        everywhere={SOME: "sale"},
        daily={TRACKS: "sale"},
    ),
    "a line is deleted and the total corrected": Wrong(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceLineId] = {line};" + correct(),
        first("lines_missing"),
    ),
    "a line is added and the total corrected": Wrong(
        add("same_price") + ";" + correct(), first("lines_added")
    ),
    "a line is added": Wrong(
        add("same_price"),
        {"first": {"lines_added": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
    ),
    "a line is duplicated": Wrong(
        add("track"),
        {"first": {"lines_added": "sale", "total": "sale"}},
        both={TOTALS: "sale", DISTINCT: "sale"},
    ),
    "a track is replaced by one of the same price": Wrong(
        line("[TrackId] = {same_price}"), first("lines_changed")
    ),
    "a track is replaced by one of another price": Wrong(
        line("[TrackId] = {other_price}, [UnitPrice] = {its_price}") + ";" + correct(),
        first("lines_changed"),
    ),
    "a price of a line is changed and the total corrected": Wrong(
        line("[UnitPrice] = 0.49") + ";" + correct(),
        first("lines_changed"),
        daily={PRICES: "sale"},
    ),
    "a price of a line is changed": Wrong(
        line("[UnitPrice] = 0.49"),
        {"first": {"lines_changed": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        daily={PRICES: "sale"},
    ),
    "a quantity is changed and the total corrected": Wrong(
        line("[Quantity] = 2") + ";" + correct(),
        first("lines_changed"),
        daily={ONE_OF_EACH: "sale"},
    ),
    "a quantity is changed": Wrong(
        line("[Quantity] = 2"),
        {"first": {"lines_changed": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        daily={ONE_OF_EACH: "sale"},
    ),
    "a quantity is changed in half of a price": Wrong(
        line("[Quantity] = -1, [UnitPrice] = -[UnitPrice]"),
        first("lines_changed"),
        daily={ONE_OF_EACH: "sale", PRICES: "sale"},
    ),
    "two sales exchange all their lines": Wrong(
        "UPDATE [InvoiceLine] SET [InvoiceId] = {sale} + {other} - [InvoiceId] "
        "WHERE [InvoiceId] IN ({sale}, {other})",
        first("lines_changed", "sale other"),
    ),
    "two sales exchange a track": Wrong(
        swap("InvoiceLine", "TrackId", "InvoiceLineId", "line", "other_line"),
        first("lines_changed", "sale other"),
    ),
    "two sales exchange a line": Wrong(
        swap("InvoiceLine", "InvoiceId", "InvoiceLineId", "line", "other_line"),
        first("lines_changed", "sale other"),
    ),
    "the tracks of a sale are in another order": Wrong(
        swap("InvoiceLine", "TrackId", "InvoiceLineId", "line", "next_line"),
        first("lines_changed"),
    ),
    # Customers and addresses.
    "a sale has another customer": Wrong(change("[CustomerId] = {buyer}"), first("customer")),
    "a sale has another customer of the same address": Wrong(
        change("[CustomerId] = {neighbour}"), first("customer")
    ),
    "a sale has another customer and that one's address": Wrong(
        change(
            "[CustomerId] = {buyer}, "
            + ", ".join(
                f"[{column}] = (SELECT c.[{column.removeprefix('Billing')}] FROM [Customer] c "
                "WHERE c.[CustomerId] = {buyer})"
                for column in BILLING.values()
            )
        ),
        {"first": {"customer": "sale", "billing_address": "sale"}},
    ),
    "two sales exchange their customers": Wrong(
        swap("Invoice", "CustomerId", "InvoiceId", "sale", "other"),
        first("customer", "sale other"),
    ),
    **{
        f"the {name} of a sale is {what}": Wrong(
            change(f"[{column}] = {value}"), first("billing_address")
        )
        for name, column in BILLING.items()
        for what, value in (("another", "'Somewhere'"), ("NULL", "NULL"), ("empty", "''"))
    },
    "an empty string is where there was none": Wrong(
        change("[BillingState] = ''", "no_state"), first("billing_address", "no_state")
    ),
    "city and state of a sale are exchanged": Wrong(
        change("[BillingCity] = [BillingState], [BillingState] = [BillingCity]"),
        first("billing_address"),
    ),
    # Moments.
    "a sale is a second later": Wrong(
        change("[InvoiceDate] = '{next_second}'"), first("timestamp")
    ),
    "two sales exchange their moments": Wrong(
        swap("Invoice", "InvoiceDate", "InvoiceId", "sale", "other"),
        first("timestamp", "sale other"),
    ),
    "a sale is on another day": Wrong(
        change("[InvoiceDate] = '{next_day}'"), first("timestamp"), others={"late": {MADE: "sale"}}
    ),
    "a sale is in another year": Wrong(change("[InvoiceDate] = '{next_year}'"), first("timestamp")),
    "a sale is 2**32 seconds later": Wrong(
        change("[InvoiceDate] = '{wrapped}'"), first("timestamp")
    ),
    "a sale has a fraction of a second": Wrong(
        change("[InvoiceDate] = '{moment}.5'"), first("timestamp"), daily={SECONDS: "sale"}
    ),
    "a sale has no timestamp but a text": Wrong(
        change("[InvoiceDate] = 'yesterday'"), first("timestamp"), only="sqlite"
    ),
    "a sale has its timestamp in another form": Wrong(
        change("[InvoiceDate] = replace([InvoiceDate], ' ', 'T')"),
        first("timestamp"),
        daily={SECONDS: "sale"},
        only="sqlite",
    ),
    "a sale has no end": Wrong(
        change("[InvoiceDate] = 'infinity'"), first("timestamp"), only="postgresql"
    ),
    "a sale has no customer but a text": Wrong(
        change("[CustomerId] = 'nobody'"),
        first("customer"),
        both={CUSTOMER: "sale"},
        only="sqlite",
    ),
    "a line has no track but a text": Wrong(
        line("[TrackId] = 'nothing'"),
        first("lines_changed"),
        both={TRACK: "line"},
        only="sqlite",
    ),
    "a line has a fraction of a track and the total is corrected": Wrong(
        line("[Quantity] = 1.4") + ";" + correct(),
        {"first": {"lines_changed": "sale", "total": "sale"}},
        both={TOTALS: "sale"},
        daily={ONE_OF_EACH: "sale"},
        only="sqlite",
    ),
    # Totals.
    "a total is a cent more": Wrong(
        change("[Total] = [Total] + 0.01"), first("total"), both={TOTALS: "sale"}
    ),
    "a total is negative": Wrong(
        change("[Total] = -[Total]"), first("total"), both={TOTALS: "sale"}
    ),
    "a total is NULL": Wrong(
        "ALTER TABLE [Invoice] ALTER [Total] DROP NOT NULL;" + change("[Total] = NULL"),
        first("total"),
        both={TOTALS: "sale"},
        only="postgresql",
    ),
    "a total is not a number": Wrong(
        change("[Total] = 'NaN'"), first("total"), both={TOTALS: "sale"}
    ),
    # Copies and ids.
    "a sale is copied above all ids": Wrong(
        copy("99999"), both={COPIES: "id_99999"}, strays="id_99999"
    ),
    "a sale is copied below the lowest id": Wrong(copy("0"), both={COPIES: "id_0"}),
    "a sale is copied into a gap": Wrong(copy("7"), both={COPIES: "id_7"}),
    "an updated sale is copied": Wrong(
        copy("99999", "updated"), both={COPIES: "id_99999"}, strays="id_99999"
    ),
    "a cancelled sale is restored under another id": Wrong(
        "{restored_invoice};{restored_lines};" + renumber("{cancelled}", "99999"),
        strays="id_99999",
    ),
    "a sale has another id": Wrong(
        renumber("{sale}", "99999"), first("missing"), strays="id_99999"
    ),
    "two sales exchange their ids": Wrong(
        renumber("{sale}", "99999")
        + ";"
        + renumber("{other}", "{sale}")
        + ";"
        + renumber("99999", "{other}"),
        {
            "first": {
                "customer": "sale other",
                "timestamp": "sale other",
                "billing_address": "sale other",
                "lines_changed": "sale other",
            }
        },
    ),
    "an invoice that no run made is on a day of a run": Wrong(
        copy("99999", "sale", "'{next_second}'"), strays="id_99999"
    ),
    # What runs changed.
    "a cancelled invoice is restored": Wrong(
        "{restored_invoice};{restored_lines}", both={CANCELLED: "cancelled"}, on="first third"
    ),
    "a cancelled invoice was another before": Wrong(
        "{cancelled_otherwise}", first("customer", "cancelled")
    ),
    "the cancellation of an invoice is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_change WHERE subject_id = {cancelled} AND subject = 'invoice'",
        first("missing", "cancelled"),
    ),
    "an updated invoice has another total": Wrong(
        change("[Total] = [Total] + 1", "updated"), both={UPDATED: "updated", TOTALS: "updated"}
    ),
    "an updated invoice has one line less": Wrong(
        "DELETE FROM [InvoiceLine] WHERE [InvoiceLineId] = {updated_line};" + correct("updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another track": Wrong(
        line("[TrackId] = {not_in_updated}, [UnitPrice] = {price_not_in_updated}", "updated_line")
        + ";"
        + correct("updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another customer": Wrong(
        change("[CustomerId] = {not_of_updated}", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another address": Wrong(
        change("[BillingAddress] = 'Somewhere'", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice has another date": Wrong(
        change("[InvoiceDate] = '{updated_later}'", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice is on another day": Wrong(
        change("[InvoiceDate] = '2026-03-01 00:00:00'", "updated"),
        both={UPDATED: "updated"},
        on="first changes",
    ),
    "an updated invoice is deleted": Wrong(
        delete("updated"), both={UPDATED: "updated"}, on="first changes"
    ),
    "an updated invoice was another before": Wrong(
        "{updated_otherwise}", first("customer", "updated")
    ),
    "an invoice was changed between two updates": Wrong(
        "{between_before};{between_after};" + change("[CustomerId] = {intruder}", "twice"),
        both={UPDATED: "twice"},
        on="first third",
    ),
    "an updated invoice of the history has another customer": Wrong(
        change("[CustomerId] = {not_of_old_updated}", "old_updated"),
        both={UPDATED: "old_updated"},
        on="past",
    ),
    "the update of an invoice is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_change WHERE subject_id = {updated} AND subject = 'invoice'",
        first("lines_added", "updated"),
    ),
    # Customers, tracks and prices.
    "a moved customer has another address": Wrong(
        "UPDATE [Customer] SET [City] = 'Somewhere' WHERE [CustomerId] = {moved}",
        both={CUSTOMERS: "moved"},
        on="third",
    ),
    "a new customer has another address": Wrong(
        "UPDATE [Customer] SET [Address] = NULL WHERE [CustomerId] = {new}",
        both={CUSTOMERS: "new"},
        on="third",
    ),
    "a new customer is deleted": Wrong(
        "DELETE FROM [Customer] WHERE [CustomerId] = {new}",
        both={CUSTOMERS: "new", CUSTOMER: "*"},
        on="third",
    ),
    "a customer is deleted": Wrong(
        "DELETE FROM [Customer] WHERE [CustomerId] = {customer}", both={CUSTOMER: "*"}
    ),
    "a track whose price a run changed costs something else": Wrong(
        "UPDATE [Track] SET [UnitPrice] = 7.77 WHERE [TrackId] = {priced}",
        both={COSTS: "priced"},
        daily={PRICES: "*"},
        on="third",
    ),
    "a track whose price no run changed costs something else": Wrong(
        "UPDATE [Track] SET [UnitPrice] = 7.77 WHERE [TrackId] = {track}", daily={PRICES: "*"}
    ),
    "a track is deleted": Wrong("DELETE FROM [Track] WHERE [TrackId] = {track}", both={TRACK: "*"}),
    "a track whose price a run changed is deleted": Wrong(
        "DELETE FROM [Track] WHERE [TrackId] = {priced}",
        both={TRACK: "*", COSTS: "priced"},
        on="third",
    ),
    "a line has no invoice": Wrong(
        line("[InvoiceId] = 99999"),
        {"first": {"lines_missing": "sale", "total": "sale"}},
        both={TOTALS: "sale", INVOICE: "line"},
    ),
    # Runs of other kinds.
    "a late sale is a second later": Wrong(
        change("[InvoiceDate] = '{late_next}'", "late"),
        {"late": {"timestamp": "late"}},
        on="first late",
    ),
    "a late sale is deleted": Wrong(delete("late"), {"late": {"missing": "late"}}, on="first late"),
    "a late sale is on the day of its run": Wrong(
        change("[InvoiceDate] = '2026-01-30 10:00:00'", "late"),
        {"late": {"timestamp": "late"}},
        on="first late",
    ),
    "a sale of a stream is deleted": Wrong(
        delete("live"), {"live": {"missing": "live"}}, on="live"
    ),
    "a sale of a stream has another customer": Wrong(
        change("[CustomerId] = {not_of_live}", "live"), {"live": {"customer": "live"}}, on="live"
    ),
    "a sale of the function has another customer": Wrong(
        change("[CustomerId] = {not_of_function}", "function"),
        {"function": {"customer": "function"}},
        on="function",
        only="postgresql",
    ),
    "a sale of the function has another track": Wrong(
        line("[TrackId] = [TrackId] + 100000", "function_line"),
        {"function": {"lines_changed": "function"}},
        both={TRACK: "function_line"},
        on="function",
        only="postgresql",
    ),
    "a sale of an undone run is inserted again": Wrong(
        "{undone_invoice};{undone_lines}", both={UNDONE: "undone"}, on="undone"
    ),
    # The history that was aligned.
    "the history is a day later": Wrong(
        "UPDATE [Invoice] SET [InvoiceDate] = {a_day_later} WHERE [InvoiceId] <= 30",
        everywhere={ALIGNED: "*"},
        on="",
    ),
    "an invoice of the history is a day later": Wrong(
        "UPDATE [Invoice] SET [InvoiceDate] = {a_day_later} WHERE [InvoiceId] = {old}",
        everywhere={ALIGNED: "old"},
        on="",
    ),
    "an invoice of the history has a fraction of a second": Wrong(
        change("[InvoiceDate] = '{old_moment}.5'", "old"), everywhere={ALIGNED: "old"}, on=""
    ),
    "an invoice of the history is deleted": Wrong(
        delete("old"), everywhere={ALIGNED: "old"}, on=""
    ),
    "an invoice of the history has another total": Wrong(
        change("[Total] = [Total] + 1", "old"), everywhere={TOTALS: "old"}, on=""
    ),
    # The ledger.
    "a run has one sale more": Wrong(
        run("sales = sales + 1"), first("100 invoice ids in the ledger for 101 sales", "")
    ),
    "a run has one line less": Wrong(run("lines = lines - 1"), first(" lines instead of ", "")),
    "a run has more revenue": Wrong(run("revenue = revenue + 1"), first("revenue ", "")),
    "a run has another digest": Wrong(
        run("digest = '{digest}'"), first("the digest of the sales differs", "")
    ),
    "a run has no digest": Wrong(
        run("digest = NULL"), first("the digest of the sales differs", "")
    ),
    "a run is of another day": Wrong(
        run("day = '2026-01-28'"), first("timestamp", "*"), strays="*", on=""
    ),
    "a run is said to be undone": Wrong(
        run("undone_at = created_at"), both={UNDONE: "*"}, strays="*"
    ),
    "a run is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_run WHERE run_id = '{run_first}'",
        both={LEDGER: "*"},
        strays="*",
    ),
    "the alignment is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_run WHERE kind = 'align'",
        both={LEDGER: "*"},
        everywhere={UPDATED: "old_updated"},
    ),
    "a change of a price is deleted from the ledger": Wrong(
        "DELETE FROM chinook_sim_change WHERE kind = 'price' AND subject_id = {priced}",
        daily={PRICES: "*"},
    ),
    "a run knew other prices": Wrong(
        run("prices_known = NULL", "third"), daily={PRICES: "*"}, on="third"
    ),
    "a run has fewer ids": Wrong(
        ranges("last_id = last_id - 1"),
        first("99 invoice ids in the ledger for 100 sales", ""),
        strays="last_of_first",
    ),
    "a run has no ids": Wrong(
        "DELETE FROM chinook_sim_run_invoices WHERE run_id = '{run_first}'",
        first("0 invoice ids in the ledger for 100 sales", ""),
        strays="*",
    ),
    "a run has other fingerprints": Wrong(
        ranges("fingerprints = {prints}"),
        {"first": {"customer": "*", "timestamp": "*", "billing_address": "*", "lines_added": "*"}},
    ),
    "a run has too few fingerprints": Wrong(
        ranges("fingerprints = {print}"),
        {"first": {"customer": "*", "timestamp": "*", "billing_address": "*", "lines_added": "*"}},
    ),
    "a run has no fingerprints and a sale another customer": Wrong(
        ranges("fingerprints = NULL") + ";" + change("[CustomerId] = {buyer}"),
        first("the digest of the sales differs", ""),
    ),
    "a run has no fingerprints and a sale is a second later": Wrong(
        ranges("fingerprints = NULL") + ";" + change("[InvoiceDate] = '{next_second}'"),
        first("the digest of the sales differs", ""),
    ),
    "a run has no fingerprints and a sale another track": Wrong(
        ranges("fingerprints = NULL") + ";" + line("[TrackId] = {same_price}"),
        first("the digest of the sales differs", ""),
    ),
    "a run has no fingerprints and a sale is deleted": Wrong(
        ranges("fingerprints = NULL") + ";" + delete(), first("missing")
    ),
}

NOT_CAUGHT = {
    # Of what no run made or changed the ledger keeps nothing.
    "an invoice that no run made is on another day": copy("99999", "sale", "'2026-01-05 10:00:00'"),
    "an invoice of the history has another customer": change("[CustomerId] = {not_of_old}", "old"),
    "a customer whom no run changed has another address": (
        "UPDATE [Customer] SET [City] = 'Somewhere' WHERE [CustomerId] = {unmoved}"
    ),
    # Of customers only the address is compared.
    "a new customer has another name": (
        "UPDATE [Customer] SET [LastName] = 'Somebody' WHERE [CustomerId] = {new}"
    ),
    # Amounts are compared in cents. PostgreSQL rounds this one itself.
    "a price of a line is a tenth of a cent more": line("[UnitPrice] = [UnitPrice] + 0.001"),
    # Lines are compared by their order.
    "lines have other ids in the same order": (
        "UPDATE [InvoiceLine] SET [InvoiceLineId] = [InvoiceLineId] + 100000 "
        "WHERE [InvoiceId] = {sale}"
    ),
    # Without fingerprints, as before revision 0006, there is the digest, which has no addresses.
    "a run has no fingerprints and a sale another address": (
        ranges("fingerprints = NULL") + ";" + change("[BillingCity] = 'Somewhere'")
    ),
    # Nothing else in the ledger says that there was one.
    "the move of a customer is deleted from the ledger": (
        "DELETE FROM chinook_sim_change WHERE kind = 'move'"
    ),
    "a run and all that the ledger has of it are deleted": (
        "DELETE FROM chinook_sim_run_invoices WHERE run_id = '{run_first}';"
        "DELETE FROM chinook_sim_run WHERE run_id = '{run_first}'"
    ),
    # What was asked for is not compared with what was made.
    "a run is of another seed": run("seed = seed + 1"),
}
"""Mutations after which every check passes; docs/reference/checks.md names them."""
