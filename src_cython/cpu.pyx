"""Which instruction-set levels this processor and its operating system offer."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
    #define HAS_V3 __builtin_cpu_supports("x86-64-v3")
    #define HAS_V4 __builtin_cpu_supports("x86-64-v4")
    #elif defined(__x86_64__) && defined(__GNUC__) /* knows the features that decide, but not the levels' names */
    #define HAS_V3 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && \\
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
    #define HAS_V4 (HAS_V3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \\
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && \\
                    __builtin_cpu_supports("avx512vl"))
    #elif defined(_M_X64) /* untried */
    #include <intrin.h>
    #include <immintrin.h>
    static int cpuid_ebx7(void) { int r[4]; __cpuidex(r, 7, 0); return r[1]; }
    static int cpuid_ecx1(void) { int r[4]; __cpuidex(r, 1, 0); return r[2]; }
    static unsigned long long os_saves(void) { return (cpuid_ecx1() >> 27 & 1) ? _xgetbv(0) : 0; }
    #define HAS_V3 ((os_saves() & 6) == 6 && (cpuid_ecx1() >> 12 & 1) && (cpuid_ebx7() >> 5 & 1) && \\
                    (cpuid_ebx7() >> 3 & 1) && (cpuid_ebx7() >> 8 & 1))
    #define HAS_V4 (HAS_V3 && (os_saves() & 0xe6) == 0xe6 && (cpuid_ebx7() & 0xd0030000) == 0xd0030000)
    #else
    #define HAS_V3 0
    #define HAS_V4 0
    #endif
    """
    bint HAS_V3
    bint HAS_V4


def levels():
    """Names of the levels this processor runs, the lowest first: "base", then "v3" (AVX2, FMA) and "v4" (AVX-512)."""
    found = ["base"]
    if HAS_V3:
        found.append("v3")
    if HAS_V4:
        found.append("v4")
    return found
