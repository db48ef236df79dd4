"""How a width is cut into tiles."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TileGroup:
    """``count`` tiles of ``width`` that start at ``first``. A range that the width does not divide has a second group of one narrower tile."""

    suffix: str
    first: int
    count: int
    width: int

    def scaled(self, unit: int, first: int = 0) -> "TileGroup":
        """The same tiles counted in elements, of which a unit has so many, from element ``first`` on."""
        return TileGroup(self.suffix, first + self.first * unit, self.count, self.width * unit)


def tile_groups(total: int, width: int) -> tuple[TileGroup, ...]:
    """Cuts 0 .. total into tiles of ``width`` and, if needed, a rest."""
    width = min(width, total)
    whole, rest = divmod(total, width)
    groups = [TileGroup("", 0, whole, width)]
    if rest:
        groups.append(TileGroup("_rest", whole * width, 1, rest))
    return tuple(groups)
