/* The floating-point mode in which the promises about bits hold: round to nearest, and subnormal numbers, those below
 * 1.2e-38 (2.2e-308), are zero as operands and as results.  Training would make them as it converges: Adam's averages
 * of a gradient that has become 0 decay to them and stay there, and an Intel processor takes some 150 cycles more for
 * each instruction that meets one. */
#ifndef FASTBP_FLOAT_MODE_H
#define FASTBP_FLOAT_MODE_H

#include "simd.h"
#if defined(__SSE2__) || defined(_M_X64)
#include <pmmintrin.h>
#endif

/* Returns the caller's mode, for float_mode_leave. */
SIMD_INLINE uint64_t float_mode_enter(void) {
#if defined(__SSE2__) || defined(_M_X64)
    uint32_t caller = _mm_getcsr();
    _mm_setcsr(0x1f80 | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON); /* no traps; results, operands */
    return caller;
#elif defined(__aarch64__) && defined(__GNUC__)
    uint64_t caller, mode = (uint64_t)1 << 24; /* flush to zero: results and operands */
    __asm__ volatile("mrs %0, fpcr" : "=r"(caller));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
    return caller;
#else
    return 0;
#endif
}
SIMD_INLINE void float_mode_leave(uint64_t caller) {
#if defined(__SSE2__) || defined(_M_X64)
    _mm_setcsr((uint32_t)caller);
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("msr fpcr, %0" : : "r"(caller));
#else
    (void)caller;
#endif
}

#endif
