"""Which code the bytes of which storage class are stored in."""

from __future__ import annotations

from dataclasses import dataclass

from codec.geometry import Geometry

STANDARD = "STANDARD"
REDUCED_REDUNDANCY = "REDUCED_REDUNDANCY"


@dataclass(frozen=True, slots=True)
class StoragePolicies:
    """Every class but REDUCED_REDUNDANCY is stored as STANDARD is. Both survive the loss of any one node (P2): no
    geometry goes without parity."""

    standard: Geometry
    reduced: Geometry

    def geometry(self, storage_class: str) -> Geometry:
        """Of new bytes of that class."""
        return self.reduced if storage_class == REDUCED_REDUNDANCY else self.standard

    @property
    def is_uniform(self) -> bool:
        """Whether all classes are stored alike."""
        return self.standard == self.reduced
