/* The team of threads that runs a parallel region, with OpenMP or without it, and the gate where its threads meet.
 *
 * OpenMP's own barrier is not used inside a step: it spins for milliseconds before it gives the processor up, which
 * on a busy machine is exactly the time its late thread is waiting for.
 */
#ifndef FASTBP_TEAM_H
#define FASTBP_TEAM_H

#include <limits.h>
#include <stddef.h>

#define team_queues(team) ((team) < TEAM_QUEUES ? (team) : TEAM_QUEUES)

#ifdef _OPENMP
#include <omp.h>
#include <stdatomic.h>
#if defined(_WIN32)
#include <windows.h>
#define team_yield() SwitchToThread()
#else
#include <sched.h>
#define team_yield() sched_yield()
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define team_pause() _mm_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define team_pause() __asm__ volatile("yield")
#else
#define team_pause() ((void)0)
#endif

#define team_size() omp_get_num_threads()
#define team_time() omp_get_wtime() /* seconds */
#define team_rank() omp_get_thread_num()
#define team_limit() omp_get_max_threads()
#define openmp_version() _OPENMP
#define openmp_address() ((size_t)(void *)&omp_get_max_threads) /* of the runtime's code, whichever has been bound */

/* About 5 us of pauses; then the processor is offered to others at every look, which costs an idle machine 0.5 us. */
enum { TEAM_SPINS = 200 };

/* How one thread's waiting is summed up: where others keep the processors of its team busy, it is faster alone. Waits
 * that spinning covers are not counted, and cost no look at the clock. */
typedef struct {
    double start, waited; /* seconds */
    int kept_waiting;
} team_watch;
#define TEAM_WATCHED 0.01  /* seconds at least: some slices of the scheduler's, so that a single one is no reason */
#define TEAM_PATIENCE 0.75 /* share of them: a partner at a third of the speed is still of use */

static inline void team_watch_start(team_watch *watch) {
    watch->start = team_time();
    watch->waited = 0;
    watch->kept_waiting = 0;
}

static inline void team_watch_waited(team_watch *watch, double since) {
    const double now = team_time(), gone = now - watch->start;
    watch->waited += now - since;
    if (gone > TEAM_WATCHED && watch->waited > TEAM_PATIENCE * gone) watch->kept_waiting = 1;
}

/* Work is cut into queues of pieces, a queue a thread: its own it takes piece by piece, and then what the others have
 * not begun. In a larger team threads share queues. */
enum { TEAM_QUEUES = 64 };
typedef struct {
    atomic_int taken;
    char alone[60]; /* on its cache line */
} team_queue;

typedef struct {
    char before[64]; /* a cache line of its own */
    atomic_int arrived;
    atomic_uint opened; /* how often: it may wrap round */
    atomic_llong last;  /* number of the batch behind which the team breaks up */
    char after[64];
    team_queue queues[TEAM_QUEUES];
} team_gate;

/* Raised by whichever threads of a team find a reason to; looked at when all are done. */
typedef atomic_int team_flag;
#define team_flag_init(flag) atomic_init(flag, 0)
#define team_flag_raise(flag) atomic_store_explicit(flag, 1, memory_order_relaxed)
#define team_flag_raised(flag) atomic_load_explicit(flag, memory_order_relaxed)

/* threads: as many as the team may have; it may be given fewer. */
static inline void team_gate_init(team_gate *gate, int threads) {
    const int queues = team_queues(threads);
    atomic_init(&gate->arrived, 0);
    atomic_init(&gate->opened, 0);
    atomic_init(&gate->last, LLONG_MAX);
    for (int i = 0; i < queues; i++) atomic_init(&gate->queues[i].taken, 0);
}

static inline void team_refill(team_gate *gate, int team) {
    const int queues = team_queues(team);
    for (int i = 0; i < queues; i++) atomic_store_explicit(&gate->queues[i].taken, 0, memory_order_relaxed);
}

static inline int team_take_from(team_queue *queue, int pieces) {
    if (atomic_load_explicit(&queue->taken, memory_order_relaxed) >= pieces) return pieces;
    return atomic_fetch_add_explicit(&queue->taken, 1, memory_order_relaxed);
}

/* One thread, between two meetings, has the team break up at the end of batch `number`, which all are in; they learn of
 * it at the meeting that ends the batch. */
static inline void team_break_up(team_gate *gate, ptrdiff_t number) {
    atomic_store_explicit(&gate->last, (long long)number, memory_order_relaxed);
}
static inline int team_breaks_up(team_gate *gate, ptrdiff_t number) {
    return number >= atomic_load_explicit(&gate->last, memory_order_relaxed);
}

/* Returns once all `team` threads have come; what each wrote before is then seen by all. The queues are full again.
 * watch: NULL, or where to sum up the waiting. */
static inline void team_meet(team_gate *gate, int team, team_watch *watch) {
    if (team == 1) {
        team_refill(gate, team);
        return;
    }
    unsigned opened = atomic_load_explicit(&gate->opened, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&gate->arrived, 1, memory_order_acq_rel) == team - 1) {
        atomic_store_explicit(&gate->arrived, 0, memory_order_relaxed);
        team_refill(gate, team);
        atomic_store_explicit(&gate->opened, opened + 1, memory_order_release);
        return;
    }
    for (int spins = 0; spins < TEAM_SPINS; spins++) {
        if (atomic_load_explicit(&gate->opened, memory_order_acquire) != opened) return;
        team_pause();
    }
    const double since = watch ? team_time() : 0;
    while (atomic_load_explicit(&gate->opened, memory_order_acquire) == opened) team_yield();
    if (watch) team_watch_waited(watch, since);
}
#else
#include <time.h>
#define team_size() 1
#define team_rank() 0
#define team_limit() 1
#define openmp_version() 0
#define openmp_address() ((size_t)0)
enum { TEAM_QUEUES = 1 };
typedef struct { int taken; } team_queue;
typedef struct { team_queue queues[TEAM_QUEUES]; } team_gate;
typedef int team_flag;
#define team_flag_init(flag) ((void)(*(flag) = 0))
#define team_flag_raise(flag) ((void)(*(flag) = 1))
#define team_flag_raised(flag) (*(flag))
typedef struct { int kept_waiting; } team_watch;
static inline double team_time(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
static inline void team_watch_start(team_watch *watch) { watch->kept_waiting = 0; }
static inline void team_break_up(team_gate *gate, ptrdiff_t number) { (void)gate; (void)number; }
static inline int team_breaks_up(team_gate *gate, ptrdiff_t number) { (void)gate; (void)number; return 0; }
static inline void team_gate_init(team_gate *gate, int threads) {
    (void)threads;
    gate->queues[0].taken = 0;
}
static inline void team_meet(team_gate *gate, int team, team_watch *watch) {
    (void)team;
    (void)watch;
    gate->queues[0].taken = 0;
}
static inline int team_take_from(team_queue *queue, int pieces) {
    return queue->taken < pieces ? queue->taken++ : pieces;
}
#endif

/* Number of the next of team_queues(team) * pieces pieces, or -1 when none is left. */
static inline int team_take(team_gate *gate, int thread, int team, int pieces) {
    const int queues = team_queues(team);
    for (int i = 0; i < queues; i++) {
        const int queue = (thread + i) % queues, piece = team_take_from(&gate->queues[queue], pieces);
        if (piece < pieces) return queue * pieces + piece;
    }
    return -1;
}

#endif
