"""Roles that lack privileges, and get one after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from support.databases import ChinookDatabase


@dataclass
class Role:
    """A role that may log in, and nothing else but what it is granted."""

    shop: ChinookDatabase
    name: str
    granted: list[str] = field(default_factory=list)

    def grant(self, *privileges: str) -> None:
        self.granted += privileges
        self.shop.execute(*(f"GRANT {privilege} TO {self.name}" for privilege in privileges))

    def connect(self) -> Connection:
        url = self.shop.url.set(username=self.name, password="x")
        return create_engine(url, poolclass=NullPool).connect()


def sequences(shop: ChinookDatabase) -> list[str]:
    return (
        ["invoice_id_seq", "invoice_line_id_seq"]
        if not shop.shape.ids
        else [
            "invoice_invoice_id_seq",
            "invoice_line_invoice_line_id_seq",
        ]
    )


def climb(role: Role, work: Callable[[], object], needed: set[str]) -> None:
    """Grant what each refusal names until it works; it must name just what is needed."""
    role.grant("USAGE ON SCHEMA public")
    for _ in range(20):
        try:
            work()
        except Exception as error:
            said = str(getattr(error, "orig", error)).splitlines()[0]
            named = re.findall(r"GRANT (\w+ ON [^;]*?) TO \w+", said)
            assert named, said
            role.grant(*named)
        else:
            break
    public = {privilege.replace("public.", "").replace('"', "") for privilege in role.granted}
    assert public - {"USAGE ON SCHEMA public"} == {
        privilege.replace('"', "") for privilege in needed
    }


def spelled(shop: ChinookDatabase, *privileges: str) -> set[str]:
    return {shop.sql(privilege) for privilege in privileges}
