"""What the tiles of a product fetch meanwhile: memory that is wanted once they are done.

It may lie in an outer cache, in memory, or in the caches of another core, and what is to be written had better be
fetched for that: a line that two cores hold for reading is slower to write than one that neither holds.
"""

from libc.stdint cimport int64_t

from real cimport FETCH_INTERVAL, FETCHES_NOTHING, FETCHES_TO_READ, TILE_STREAMS, ceil_div, product

cdef enum:
    FETCHED_LINE = 64  # bytes that one fetch brings
    MOST_SETS = 8

cdef struct stretches:
    # ``count`` stretches of memory, each of ``lines`` lines that lie ``step`` bytes apart.
    const char* at
    const int64_t* order  # stretch i begins order[i] distances on from at, or i where order is NULL
    ptrdiff_t distance    # in bytes
    ptrdiff_t count
    ptrdiff_t step
    ptrdiff_t lines
    int use               # FETCHES_TO_READ or FETCHES_TO_WRITE

cdef struct upcoming:
    stretches sets[MOST_SETS]
    int expected          # sets
    int turn              # of which set it is
    ptrdiff_t begun       # stretches of it
    const char* at        # what is left of the last of them
    ptrdiff_t left        # in lines


cdef inline void expect_nothing(upcoming* wanted) noexcept nogil:
    wanted.expected, wanted.turn, wanted.begun, wanted.left = 0, 0, 0, 0


cdef inline void expect(upcoming* wanted, stretches more) noexcept nogil:
    """One set more; they are fetched in this order."""
    if more.count > 0:
        wanted.sets[wanted.expected] = more
        wanted.expected += 1


cdef inline ptrdiff_t lines_of(const void* at, ptrdiff_t distance, ptrdiff_t size) noexcept nogil:
    """The most lines that a piece of so many bytes touches, of pieces so far apart of which the first is at ``at``."""
    cdef bint aligned = <size_t>at % FETCHED_LINE == 0 and distance % FETCHED_LINE == 0
    return ceil_div(size if aligned else size + FETCHED_LINE - 1, FETCHED_LINE)


cdef inline stretches runs_in_order(
    int use, const int64_t* order, const void* at, ptrdiff_t distance, ptrdiff_t count, ptrdiff_t run
) noexcept nogil:
    """So many runs of ``run`` bytes, taken as order says, or one after the other where it is NULL."""
    cdef stretches runs
    runs.use, runs.at, runs.order, runs.distance, runs.count = use, <const char*>at, order, distance, count
    runs.step, runs.lines = FETCHED_LINE, lines_of(at, distance, run)
    return runs


cdef inline stretches runs_of_memory(
    int use, const void* at, ptrdiff_t distance, ptrdiff_t count, ptrdiff_t run
) noexcept nogil:
    """So many runs of ``run`` bytes, as a single one where each ends at the next."""
    if run == distance and count > 1:
        return runs_in_order(use, NULL, at, 0, 1, count * run)
    return runs_in_order(use, NULL, at, distance, count, run)


cdef inline stretches no_memory() noexcept nogil:
    return runs_of_memory(FETCHES_NOTHING, NULL, 0, 0, 0)


cdef inline stretches columns_of_rows(const void* at, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t width) noexcept nogil:
    """The first ``width`` bytes of so many rows that lie ``row`` bytes apart, a line of all after the other.

    Rows without gaps are a single run.
    """
    cdef stretches columns
    if width == row:
        return runs_of_memory(FETCHES_TO_READ, at, row, rows, width)
    columns.use, columns.at, columns.order, columns.distance = FETCHES_TO_READ, <const char*>at, NULL, FETCHED_LINE
    columns.count, columns.step, columns.lines = lines_of(at, row, width), row, rows
    return columns


cdef inline bint begin_stretch(upcoming* wanted) noexcept nogil:
    """Turn to the next stretch of what is wanted; whether there is one."""
    cdef stretches* present
    while wanted.turn < wanted.expected:
        present = wanted.sets + wanted.turn
        if wanted.begun < present.count:
            wanted.at = present.at + present.distance * (
                wanted.begun if present.order == NULL else present.order[wanted.begun]
            )
            wanted.left = present.lines
            wanted.begun += 1
            return True
        wanted.turn += 1
        wanted.begun = 0
    return False


cdef inline void fetch_meanwhile(product* p, upcoming* wanted) noexcept nogil:
    """Have p's next tile fetch as much of what is wanted as it has streams for, all of it for one use.

    A stream has one length.  What is shorter has its lines asked for more than once if they follow one another, and is
    left out if they lie apart.
    """
    cdef ptrdiff_t length = p.depth // FETCH_INTERVAL, lines
    cdef stretches* present
    cdef int streams = 0, i
    p.fetches = FETCHES_NOTHING
    while length > 0 and streams < TILE_STREAMS and (wanted.left > 0 or begin_stretch(wanted)):
        present = wanted.sets + wanted.turn
        if streams and present.use != p.fetches:
            break
        lines = min(wanted.left, length)
        if present.step != FETCHED_LINE and lines < length:
            wanted.left = 0
            continue
        p.fetches = present.use
        p.ahead[streams].at, p.ahead[streams].step = wanted.at, present.step
        if lines < length:
            p.ahead[streams].step = ceil_div(lines * FETCHED_LINE, length)
        wanted.at += lines * present.step
        wanted.left -= lines
        streams += 1
    for i in range(streams, TILE_STREAMS):  # some place that is near
        p.ahead[i].at, p.ahead[i].step = <const char*>p.a, 0
