/* The floating-point mode in which the promises about bits hold: round to nearest, subnormals kept. */
#ifndef FASTBP_FLOAT_MODE_H
#define FASTBP_FLOAT_MODE_H

#include "simd.h"

/* Returns the caller's mode, for float_mode_leave. */
SIMD_INLINE uint64_t float_mode_enter(void) {
#if defined(__SSE2__) || defined(_M_X64)
    uint32_t caller = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return caller;
#elif defined(__aarch64__) && defined(__GNUC__)
    uint64_t caller, mode = 0;
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
