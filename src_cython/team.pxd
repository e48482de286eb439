"""The team of threads that runs a parallel region, the gate where they meet, and what they tell those who wait.

Cython's own parallel loops end in `nowait`: where threads must meet, `team_meet` is written out.
"""

cdef extern from "team.h" nogil:
    ctypedef struct team_gate:
        pass
    ctypedef struct team_flag:
        pass
    int team_size()
    double team_time()
    int team_rank()
    int team_limit()
    int openmp_version()
    size_t openmp_address()
    void team_gate_init(team_gate* gate, int threads)
    ctypedef struct team_watch:
        int kept_waiting
    void team_watch_start(team_watch* watch)
    void team_meet(team_gate* gate, int team, team_watch* watch)
    void team_break_up(team_gate* gate, ptrdiff_t number)
    bint team_breaks_up(team_gate* gate, ptrdiff_t number)
    int team_queues(int team)
    int team_take(team_gate* gate, int thread, int team, int pieces)
    void team_flag_init(team_flag* flag)
    void team_flag_raise(team_flag* flag)
    bint team_flag_raised(team_flag* flag)
