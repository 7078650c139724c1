"""What the catalog learns of a written blob."""

from catalog.model import Run
from cluster.receipt import Receipt
from s3front.blob_store import new_blob


def test_s9_all_runs_of_a_receipt_reach_the_catalog() -> None:
    """Red when `runs` are left out: all stripes would be looked for where the first ones lie."""
    runs = (Run(7, (1, 3, 0, 3, 1)), Run(40, (1, 2, 3)))
    blob = new_blob(Receipt(bytes(16), 50 << 20, 2, 1, 1 << 20, (1, 2, 3), 50, runs))
    assert (blob.id, blob.size, blob.k, blob.m, blob.stripe_bytes) == (bytes(16), 50 << 20, 2, 1, 1 << 20)
    assert (blob.nodes, blob.stripes, blob.runs) == ((1, 2, 3), 50, runs)
