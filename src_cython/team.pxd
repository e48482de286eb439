"""The team of threads that runs a parallel region, and the gate where they meet.

Cython's own parallel loops end in `nowait`: where threads must meet, `team_meet` is written out.
"""

cdef extern from "team.h" nogil:
    ctypedef struct team_gate:
        pass
    int team_size()
    int team_rank()
    int openmp_version()
    void team_gate_init(team_gate* gate)
    void team_meet(team_gate* gate, int team)
