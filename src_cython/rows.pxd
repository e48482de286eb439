"""The order in which rows are taken, their way into a batch, and the search for numbers that are no use."""

from libc.math cimport floor, isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport llabs

from real cimport NUMBER_FLOAT16, convert_rows, copy_rows, needs_conversion, real, table

cdef extern from "simd.h" nogil:
    void SIMD_PREFETCH(const char*)

cdef enum:
    DRAWN_AHEAD = 32  # a power of two
    GATHERED = 4096  # elements converted before they are looked at: they are still in the first-level cache
    COMPARED = 512   # numbers that are compared with their bounds together


cdef inline ptrdiff_t find_nonfinite_row(const real* x, ptrdiff_t n) noexcept nogil:
    """Index of the first infinity or NaN, or -1."""
    cdef ptrdiff_t i
    cdef int bad = 0
    for i in range(n):  # without a way out in the middle: the compiler makes vectors of it
        bad |= not (x[i] - x[i] == 0)
    if bad:
        for i in range(n):
            if not isfinite(x[i]):
                return i
    return -1


cdef inline table long_row(const table* source) noexcept nogil:
    """The same numbers as a single row where they lie evenly, or else as they are."""
    cdef table row = source[0]
    if source.columns == 1:
        row.columns, row.column_stride, row.rows = source.rows, source.row_stride, 1
    elif source.row_stride == source.columns * source.column_stride:
        row.columns, row.rows = source.rows * source.columns, 1
    return row


cdef inline table columns_of(const table* source, ptrdiff_t first, ptrdiff_t most) noexcept nogil:
    """Its columns from ``first`` on, at most so many."""
    cdef table some = source[0]
    some.data, some.columns = source.data + first * source.column_stride, min(most, source.columns - first)
    return some


cdef inline ptrdiff_t find_nonfinite_number(const table* source, real* scratch, ptrdiff_t room) noexcept nogil:
    """Flat index of the first number that is not finite once converted, or -1; so many are converted together."""
    cdef table row = long_row(source), some
    cdef ptrdiff_t r, first, found
    for r in range(row.rows):
        first = 0
        while first < row.columns:
            some = columns_of(&row, first, room)
            convert_rows(scratch, 0, &some, <const int64_t*>NULL, r, 1)
            found = find_nonfinite_row(scratch, some.columns)
            if found >= 0:
                return r * row.columns + first + found
            first += room
    return -1


cdef inline bint all_between(const table* source, double most, bint whole) noexcept nogil:
    """Whether every number is one from 0 to ``most``, and a whole one where that is asked for."""
    cdef double numbers[COMPARED]
    cdef table turned = source[0], row, some
    cdef ptrdiff_t r, first, i
    cdef int bad = 0
    if llabs(source.row_stride) < llabs(source.column_stride):  # column after column
        turned.rows, turned.columns = source.columns, source.rows
        turned.row_stride, turned.column_stride = source.column_stride, source.row_stride
    row = long_row(&turned)
    whole = whole and source.number >= NUMBER_FLOAT16
    for r in range(row.rows):
        first = 0
        while first < row.columns:
            some = columns_of(&row, first, COMPARED)
            convert_rows(&numbers[0], 0, &some, <const int64_t*>NULL, r, 1)
            for i in range(some.columns):  # without a way out in the middle: the compiler makes vectors of it
                bad |= not (numbers[i] >= 0)
                bad |= not (numbers[i] <= most)
            if whole and not bad:
                for i in range(some.columns):
                    bad |= numbers[i] != floor(numbers[i])
            if bad:
                return False
            first += COMPARED
    return True


cdef inline bint sums_to_one(const table* source, ptrdiff_t r, double tolerance) noexcept nogil:
    """Whether a row's numbers do."""
    cdef double numbers[COMPARED]
    cdef double total = 0
    cdef table some
    cdef ptrdiff_t first = 0, i
    while first < source.columns:
        some = columns_of(source, first, COMPARED)
        convert_rows(&numbers[0], 0, &some, <const int64_t*>NULL, r, 1)
        for i in range(some.columns):
            total += numbers[i]
        first += COMPARED
    return 1 - tolerance <= total <= 1 + tolerance


cdef inline bint gather_rows(
    real* out, ptrdiff_t out_row, const table* source, const int64_t* order, ptrdiff_t first, ptrdiff_t rows
) noexcept nogil:
    """out (rows, columns) = the rows that order names, or first, first + 1, ... where order is NULL.

    Returns whether every number came out finite.
    """
    cdef ptrdiff_t some = max(1, GATHERED // out_row), done = 0, n, r
    cdef bint finite = True
    if not needs_conversion(out, source):
        return copy_rows(out, out_row, source, order, first, rows)
    while done < rows:
        n = min(some, rows - done)
        convert_rows(out, out_row, source, order + done if order != NULL else order, first + done, n)
        if source.number >= NUMBER_FLOAT16 and find_nonfinite_row(out, (n - 1) * out_row + source.columns) >= 0:
            for r in range(n):  # it may have been in the padding
                finite &= find_nonfinite_row(out + r * out_row, source.columns) < 0
        out += n * out_row
        done += n
    return finite


cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that scatters counters."""
    z = (z ^ (z >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    z = (z ^ (z >> 27)) * <uint64_t>0x94d049bb133111eb
    return z ^ (z >> 31)


cdef inline ptrdiff_t drawn_below(ptrdiff_t count, uint64_t state) noexcept nogil:
    """A number from 0 to count - 1 by 53 random bits as a fraction of 1: the bias is below count / 2^53."""
    return <ptrdiff_t>(<double>(mix(state) >> 11) * (1.0 / 9007199254740992.0) * <double>count)


cdef inline void shuffle_rows(int64_t* order, ptrdiff_t count, uint64_t seed, uint64_t epoch) noexcept nogil:
    """order = a permutation of 0..count-1 that depends on count, seed and epoch alone (Fisher and Yates).

    Partners are drawn DRAWN_AHEAD exchanges ahead, so that those of a large order have been fetched by then.
    """
    cdef uint64_t state = mix(mix(seed) + epoch)
    cdef ptrdiff_t partners[DRAWN_AHEAD]
    cdef ptrdiff_t i, j
    cdef int64_t held
    for i in range(count):
        order[i] = i
    for i in range(count - 1 + DRAWN_AHEAD, 0, -1):
        if i < count:
            j = partners[i & (DRAWN_AHEAD - 1)]
            held = order[i]
            order[i] = order[j]
            order[j] = held
        if i > DRAWN_AHEAD:
            state += <uint64_t>0x9e3779b97f4a7c15
            j = drawn_below(i - DRAWN_AHEAD + 1, state)
            partners[i & (DRAWN_AHEAD - 1)] = j
            SIMD_PREFETCH(<const char*>(order + j))
