"""Every checksum a client may declare can be kept in the catalog."""

from catalog.attributes import CHECKSUM_KINDS
from s3front.wire.checksums import ALGORITHMS


def test_every_algorithm_has_its_stored_numbers() -> None:
    for name in ALGORITHMS:
        assert {(name, "FULL_OBJECT"), (name, "COMPOSITE")} <= set(CHECKSUM_KINDS)


def test_stored_numbers_never_change() -> None:
    assert [CHECKSUM_KINDS.index(kind) for kind in (("CRC32", "FULL_OBJECT"), ("SHA256", "COMPOSITE"))] == [
        0,
        9,
    ]
    assert CHECKSUM_KINDS[10:12] == (("SHA512", "FULL_OBJECT"), ("SHA512", "COMPOSITE"))
