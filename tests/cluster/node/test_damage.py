"""The list of blocks found bad: bounded, in key order, cleared when a block is covered."""

from cluster.node.damage import DamageList


def key(number: int) -> bytes:
    return number.to_bytes(21, "big")


def test_pages_are_in_key_order() -> None:
    damaged = DamageList()
    for number in (5, 1, 3):
        assert damaged.found(key(number), number * 10, "rotten")
    assert damaged.page(b"", 2) == ([(key(1), 10, "rotten"), (key(3), 30, "rotten")], True)
    assert damaged.page(key(3), 2) == ([(key(5), 50, "rotten")], False)
    assert damaged.page(key(5), 2) == ([], False)
    damaged.found(key(4), 40, "missing")
    assert damaged.page(key(3), 2)[0] == [(key(4), 40, "missing"), (key(5), 50, "rotten")]


def test_a_report_is_news_once() -> None:
    damaged = DamageList()
    assert damaged.found(key(1), 10, "rotten")
    assert not damaged.found(key(1), 10, "unreadable")
    assert damaged.found(key(1), 11, "rotten")
    assert len(damaged) == 1
    assert damaged.lists(key(1), 11)
    assert not damaged.lists(key(1), 10)
    assert not damaged.lists(key(2), 10)


def test_what_is_settled_is_gone() -> None:
    damaged = DamageList()
    damaged.found(key(1), 10, "rotten")
    damaged.found(key(2), 20, "rotten")
    assert damaged.page(b"", 9)[0]
    damaged.settled(key(1))
    damaged.settled(key(7))
    assert damaged.page(b"", 9) == ([(key(2), 20, "rotten")], False)
    assert damaged.found(key(1), 10, "rotten")


def test_p8_the_list_is_bounded() -> None:
    """Red when the bound in `found` is dropped."""
    damaged = DamageList(entries_max=3)
    for number in range(10):
        assert damaged.found(key(number), 1, "rotten")
    assert len(damaged) == 3
    assert not damaged.found(key(0), 1, "rotten")
    damaged.settled(key(0))
    damaged.found(key(9), 1, "rotten")
    assert [entry[0] for entry in damaged.page(b"", 9)[0]] == [key(1), key(2), key(9)]
