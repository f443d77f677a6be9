"""Values in blocks that lie in a list: what `BlockArray` reads, without Ray."""

from lstmfcn.data.dataset import BlockArray, rows_of_block


class ListedBlocks:
    """Gives the blocks of a list, as read-only as those of an object store, and counts reads.

    Attributes:
        reads: the numbers of the blocks, in the order in which they were read.
    """

    def __init__(self, blocks):
        self._blocks, self.reads = blocks, []
        for block in blocks:
            block.setflags(write=False)

    def __call__(self, numbers):
        for number in numbers:
            self.reads.append(number)
            yield self._blocks[number]


def in_blocks(values, block_rows=None):
    """Values (N, V) in blocks of so many rows; by default as many as a data set's."""
    n_rows, n_values = values.shape
    block_rows = block_rows or rows_of_block(n_values)
    starts = range(0, n_rows, block_rows)
    blocks = ListedBlocks([values[start : start + block_rows].copy() for start in starts])
    return BlockArray(blocks, n_rows, n_values, block_rows)
