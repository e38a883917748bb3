"""The way through time in blocks of steps: the steps of a block are rows, one after the other, of every pass.

A pass goes through the rows of a block in order, for the same units. What a step hands to the next one is written where
the row of that step reads it, so that units run through time by themselves, while products have as many rows as there
are steps. Rows that end early end a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Loop", "block_rows"]


@dataclass(frozen=True)
class Loop:
    """What a loop over blocks moves.

    Args:
        padded: of every state, the units of a row of scratch memory, as C.
        copy_in, copy_out: C that copies the states of row `r` from and to the caller's memory.
        passes: C that runs all passes on `flat` rows.
        lag: how many steps back a step looks at most.
        stopped: the states of which nothing is carried on.
    """

    padded: Sequence[str]
    copy_in: str
    copy_out: str
    passes: str
    lag: int
    stopped: Sequence[int] = ()

    def forward(self) -> str:
        """From the first step to the last; all `count` rows have been copied in."""
        return f"""    int64_t rows = count, span = 0, spans = 0, wide = 0;
    for (int64_t t = 0; t < J->steps; t += span) {{
        for (; J->lengths && rows && J->lengths[P->first[rows - 1]] <= t; rows--) if (!member) {{
            const int64_t r = rows - 1;
{self.copy_out}
        }}
        if (!rows) break;
        span = MINIMUM(MAXIMUM(J->block / rows, 1), J->steps - t);
        if (J->lengths) span = MINIMUM(span, J->lengths[P->first[rows - 1]] - t);
{self._block("")}
    }}
    if (!member) for (int64_t r = 0; r < rows; r++) {{
{self.copy_out}
    }}"""

    def backward(self) -> str:
        """From the last step to the first. The first ones are blocks of their own: what was before lies elsewhere."""
        return f"""    int64_t rows = 0, span = 0, spans = 0, wide = 0;
    for (int64_t t = J->steps - 1; t >= 0; t -= span) {{
        for (; rows < count && (!J->lengths || J->lengths[P->first[rows]] > t); rows++) if (!member) {{
            const int64_t r = rows;
{self.copy_in}
        }}
        span = 1;
        if (!rows) continue;
        if (t >= {self.lag}) span = MINIMUM(MAXIMUM(J->block / rows, 1), t + 1 - {self.lag});
        if (rows < count) span = MINIMUM(span, t + 1 - J->lengths[P->first[rows]]);
{self._block("-")}
    }}
    if (!member) for (int64_t r = 0; r < count; r++) {{
        if (r >= rows) {{
{self.copy_in}
        }}
{self.copy_out}
    }}"""

    def _block(self, sign: str) -> str:
        """One block: its rows, where each hands its states on, all passes, and what the next block reads."""
        lines = [
            "        const int64_t flat = span * rows;",
            "        if ((span != spans || rows != wide) && !member)",
            "            for (int64_t k = 0; k < span; k++)",
            "                for (int64_t r = 0; r < rows; r++)",
            f"                    P->ids[k * rows + r] = {sign}k * batch + P->first[r], "
            "P->own[k * rows + r] = P->first[r];",
            "        spans = span, wide = rows;",
        ]
        for number, padded in enumerate(self.padded):
            lines.append(
                f"        P->next[{number}] = span > 1 ? P->last[{number}] + rows * {padded} : P->spare[{number}];"
            )
        lines += [
            f"        if (!member) memset(P->next[{number}], 0, flat * {self.padded[number]} * sizeof(real));"
            for number in self.stopped
        ]
        lines += ["        wait_for_all(&J->gate, members);", self.passes]
        for number, padded in enumerate(self.padded):
            last, spare = f"P->last[{number}]", f"P->spare[{number}]"
            lines += [
                f"        if (span == 1) {{ real *swap = {last}; {last} = {spare}, {spare} = swap; }}",
                f"        else if (!member) memcpy({last}, {last} + flat * {padded}, rows * {padded} * sizeof(real));",
            ]
        return "\n".join(lines)


def block_rows(row: Sequence[str]) -> str:
    """C that chooses how many rows a block has, given the numbers that a row of it has in the caches."""
    return f"""    const int64_t row_bytes = ({" + ".join(["1", *row])}) * (int64_t)sizeof(real);
    J->block = MINIMUM(MAXIMUM(BLOCK_BYTES / row_bytes, GROUP_ROWS), MOST_BLOCK_ROWS) / GROUP_ROWS * GROUP_ROWS;
    J->block = MAXIMUM(MINIMUM(J->block, J->steps * J->most_rows), J->most_rows);"""
