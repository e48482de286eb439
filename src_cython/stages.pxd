"""A network as the core sees it: a list of stages, and the forward and backward pass of one for a block of rows."""

from libc.stdint cimport int64_t

from activations cimport (
    IDENTITY, RELU, SOFTMAX, activation_backward, activation_forward, is_elementwise, slope_epilogue,
)
from dense cimport (
    backward_packing, dense_forward, dense_input_gradient, first_panel, forward_packing, strip_packing,
    worth_multiplying,
)
from fetching cimport no_memory, stretches
from real cimport EPILOGUE_NONE, EPILOGUE_RELU, LINE, dots, is_one_run, padded, real, table

cdef enum stage_kind:
    ELEMENTWISE = 0  # an activation without a dense layer before it
    DENSE = 1

cdef struct stage:
    # One dense layer with the activation after it, or an activation alone. Offsets and widths in elements;
    # every field is int64 so that a row of an integer array is one stage. The order is STAGE_FIELDS.
    int64_t kind
    int64_t activation
    int64_t inputs
    int64_t outputs
    int64_t weight          # in the parameters: (inputs, outputs)
    int64_t bias            # in the parameters: (outputs)
    int64_t output          # in the workspace: A (batch, row)
    int64_t delta           # in the workspace: dZ (batch, row)
    int64_t row
    int64_t propagates      # 1 where a layer below needs dX

cdef struct network:
    const stage* stages
    ptrdiff_t count
    void* parameters
    ptrdiff_t parameter_count
    int loss
    table x
    table y


cdef inline const stage* last_stage(const network* net) noexcept nogil:
    return net.stages + net.count - 1


cdef inline stretches entry_of(const stage* s, const real* parameters, ptrdiff_t rows) noexcept nogil:
    """The parameters that a forward pass of so many rows through a stage begins with."""
    if s.kind == DENSE:
        return first_panel(parameters + s.weight, rows, s.inputs, s.outputs)
    return no_memory()


cdef inline void stage_forward(
    const stage* s, const real* parameters, real* a, ptrdiff_t a_row, const real* x, ptrdiff_t x_row,
    real* packed, ptrdiff_t rows, int activation, const stretches* beyond,
) noexcept nogil:
    """A = f(X W + b), or A = f(X), for a block of rows; ``activation`` stands in for the stage's own.

    beyond: as in `multiply`.
    """
    cdef ptrdiff_t r
    if s.kind == DENSE:
        dense_forward(
            a, a_row, x, x_row, parameters + s.weight, s.outputs, parameters + s.bias, packed, rows, s.inputs,
            s.outputs, EPILOGUE_RELU if activation == RELU else EPILOGUE_NONE, True, beyond,
        )
        if activation == RELU or activation == IDENTITY:
            return
        x, x_row = a, a_row
    if x_row == a_row and is_elementwise(activation) and is_one_run(a_row, s.outputs):
        activation_forward(activation, a, x, (rows - 1) * a_row + s.outputs)  # the padding in between too
        return
    for r in range(rows):
        activation_forward(activation, a + r * a_row, x + r * x_row, s.outputs)


cdef inline void stage_backward(
    const stage* s, const stage* below, const real* parameters, const real* workspace, real* dx, real* packed,
    ptrdiff_t first, ptrdiff_t rows, ptrdiff_t batch,
) noexcept nogil:
    """dZ of the stage below from dZ of this one, for rows first.. of the batch."""
    cdef const real* y = workspace + below.output + first * below.row
    cdef const real* dz = workspace + s.delta + first * s.row
    cdef ptrdiff_t r
    dx += below.delta + first * below.row
    if s.kind == DENSE and not worth_multiplying(batch):
        dots(dx, 1, parameters + s.weight, s.outputs, dz, s.inputs, s.outputs)
        dz = dx
    elif s.kind == DENSE:
        dense_input_gradient(
            dx, below.row, dz, s.row, parameters + s.weight, y, below.row, packed, rows, s.inputs, s.outputs,
            slope_epilogue(<int>below.activation),
        )
        if below.activation != SOFTMAX:
            return
        dz = dx
    for r in range(rows):
        activation_backward(<int>below.activation, dx + r * below.row, dz + r * below.row, y + r * below.row, s.inputs)


cdef inline ptrdiff_t packing_size(const network* net, const real* like, ptrdiff_t batch) noexcept nogil:
    """Elements a thread needs for what is packed: a panel, or strips of X and dZ.

    An evaluation gets room for the backward pass too.
    """
    cdef const stage* s
    cdef ptrdiff_t size = 0, i
    for i in range(net.count):
        s = net.stages + i
        if s.kind == DENSE:
            size = max(size, forward_packing(like, s.inputs, s.outputs))
            if s.propagates:
                size = max(size, backward_packing(like, batch, s.outputs))
            size = max(size, batch * LINE + strip_packing(like, batch, s.outputs, s.row))
    return padded(size)
