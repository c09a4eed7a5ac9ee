"""Plain text in columns whose rows may come bit by bit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


class Columns:
    """Lines whose cells stand below each other; the head comes before the first of them. Widths grow when they must."""

    def __init__(self, names: Sequence[str], right: Collection[int] = ()) -> None:
        self._names = list(names)
        self._right = frozenset(right)
        self._widths = [len(name) for name in names]
        self._has_head = False

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """The rows as lines, numbers (columns of `right`) to the right."""
        table = [list(row) for row in rows]
        self._widths = [max(width, *(len(row[i]) for row in table), 0) for i, width in enumerate(self._widths)]
        head = [] if self._has_head else [self._line(self._names)]
        self._has_head = True
        return [*head, *map(self._line, table)]

    def _line(self, row: Sequence[str]) -> str:
        cells = [
            text.rjust(width) if i in self._right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, self._widths, strict=True))
        ]
        return "  ".join(cells).rstrip()
