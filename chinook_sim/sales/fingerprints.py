"""Fingerprints of sales: 16 bytes for each sale, stored in the ledger with the ids.

The digest of a run says whether its sales are as they were made. The fingerprints say which ones
are not, and in what they differ. The fingerprint of a sale is four unsigned 32-bit integers in
big-endian byte order, each modulo 2**32:

customer   the id of the customer
second     the second of the day of the run; negative for a late sale
billing    the first four bytes of SHA-256 of the five billing columns: in UTF-8, each followed
           by U+001F, NULL as U+001E
lines      the checksum of the lines * 8 + their number, at most 7

The checksum of lines 1 to n, in the order of their ids, is (the sum of track_k * G**(2k - 1) +
cents_k * G**(2k), for k from 1 to n) mod P mod 2**29, with G = 16807 and P = 2**31 - 1. SQL can
compute it without an overflow of bigint.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from chinook_sim.sales.batch import SaleBatch
    from chinook_sim.sales.catalogue import Catalogue
    from chinook_sim.sales.id_ranges import IdRanges

__all__ = ["RecordedRange", "by_range", "dated_fingerprints", "fingerprints"]

FINGERPRINT_SIZE = 16
"""Bytes of one fingerprint."""

_P, _G = 2**31 - 1, 16_807

_CHECKSUM = 2**29


class RecordedRange(NamedTuple):
    """A row of `RunInvoices`: some consecutive sales of a run, in the order of its columns."""

    run_id: str
    first_id: int
    last_id: int
    step: int
    fingerprints: bytes


def by_range(run_id: str, ids: IdRanges, known: bytes) -> Iterator[RecordedRange]:
    """Yield a row for each range of ids, with the fingerprints of its sales.

    Args:
        run_id: the run.
        ids: the ids of its sales.
        known: the fingerprints of the sales, in the same order.
    """
    place = 0
    for part in ids.ranges:
        end = place + len(part) * FINGERPRINT_SIZE
        yield RecordedRange(run_id, part[0], part[-1], part.step, known[place:end])
        place = end


def fingerprints(batch: SaleBatch) -> bytes:
    """Return the fingerprints of a slice of sales, `FINGERPRINT_SIZE` bytes for each."""
    fields = np.empty((batch.count, 4), dtype=">u4")
    fields[:, 0] = batch.customer_ids & 0xFFFFFFFF
    fields[:, 1] = batch.seconds & 0xFFFFFFFF
    fields[:, 2] = _billing(batch.catalogue)[batch.customers]
    fields[:, 3] = _checksums(batch) * 8 + np.minimum(batch.sizes, 7)
    return fields.tobytes()


def dated_fingerprints(seconds: Sequence[int]) -> bytes:
    """Return fingerprints in which only the second of the day is set, as an alignment has them."""
    fields = np.zeros((len(seconds), 4), dtype=">u4")
    fields[:, 1] = np.array(seconds, dtype=np.int64) & 0xFFFFFFFF
    return fields.tobytes()


def _checksums(batch: SaleBatch) -> NDArray[np.int64]:
    sizes = batch.sizes
    place = np.arange(batch.lines) - np.repeat(batch.offsets[:-1], sizes)
    powers = [1]
    for _ in range(2 * int(sizes.max(initial=0))):
        powers.append(powers[-1] * _G % _P)
    power = np.array(powers, dtype=np.int64)
    terms = batch.track_ids % _P * power[2 * place + 1] % _P
    terms += batch.prices % _P * power[2 * place + 2] % _P
    running = np.concatenate([[0], np.cumsum(terms)])
    sums: NDArray[np.int64] = running[batch.offsets[1:]] - running[batch.offsets[:-1]]
    return sums % _P % _CHECKSUM


# A batch is written slice by slice, and a backfill has many batches of one catalogue.
@lru_cache(maxsize=2)
def _billing(catalogue: Catalogue) -> NDArray[np.uint32]:
    texts = (
        "".join("\x1e\x1f" if field is None else f"{field}\x1f" for field in address)
        for address in catalogue.billing
    )
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:4] for text in texts)
    return np.frombuffer(digests, dtype=">u4").astype(np.uint32)
