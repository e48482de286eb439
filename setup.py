"""Build the extensions: one source of the core, once for each instruction-set level.

Environment at build time:
    FASTBP_NATIVE=1   tune the highest level this machine runs for this very machine
    FASTBP_DEBUG=1    bounds checks, assertions, address and undefined-behaviour sanitizers; no optimisation
    FASTBP_DEBUG=thread   the thread sanitizer instead of those two; wants clang and its OpenMP runtime
    CC                the compiler, as everywhere
"""

import os
import platform
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

DEBUG = os.environ.get("FASTBP_DEBUG", "0") not in ("", "0")
NATIVE = os.environ.get("FASTBP_NATIVE", "0") not in ("", "0")
X86 = platform.machine().lower() in ("x86_64", "amd64")
SANITIZED = "thread" if os.environ.get("FASTBP_DEBUG") == "thread" else "address,undefined"
DEBUG_KIND = "debug-thread" if SANITIZED == "thread" else "debug"
KIND = DEBUG_KIND if DEBUG else "native" if NATIVE else "release"

# Value-safe all of them: no fused multiply-add that is not spelt; roots and selections as plain instructions.
COMMON = [
    "-O3",
    "-std=c11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
]
LEVELS = {
    "base": [],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
MSVC_LEVELS = {"base": [], "v3": ["/arch:AVX2"], "v4": ["/arch:AVX512"]}  # untried
SANITIZERS = [f"-fsanitize={SANITIZED}", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


class BuildLevels(build_ext):
    """Give each extension the flags of its level, and find out whether the compiler has OpenMP."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        openmp_compile, openmp_link = self.openmp_flags(msvc)
        for extension in self.extensions:
            level = extension.name.rpartition("_")[2]
            if msvc:
                flags = ["/O2", "/fp:precise", *MSVC_LEVELS.get(level, [])]
            else:
                flags = [*COMMON, *LEVELS.get(level, [])]
                if NATIVE and level == self.highest_level():
                    flags.append("-march=native")
                if DEBUG:
                    flags = [*flags, "-O1", "-g", *SANITIZERS]
                    extension.extra_link_args += SANITIZERS
                elif sys.platform.startswith("linux"):
                    extension.extra_link_args.append("-Wl,--strip-all")
            if level in LEVELS:
                flags += openmp_compile
                extension.extra_link_args += openmp_link
            extension.extra_compile_args = flags
            text = " ".join(flags)
            extension.define_macros.append(("FASTBP_FLAGS", f'"{text}"'))
        super().build_extensions()

    def highest_level(self) -> str:
        """The level that a build for this machine replaces: the last one on Linux's own word, else base."""
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        return "v4" if "avx512vl" in flags else "v3" if "avx2" in flags and "fma" in flags else "base"

    def openmp_flags(self, msvc: bool) -> tuple[list[str], list[str]]:
        """Flags to compile and link with OpenMP; none, and a word about it, where a trial does not build."""
        trials = [] if msvc else [(["-fopenmp"], ["-fopenmp"])]  # MSVC lacks the atomics of C11
        if sys.platform == "darwin":  # Apple clang with libomp; untried
            trials.append((["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
        for compile_flags, link_flags in trials:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "trial.c"
                source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
                try:
                    objects = self.compiler.compile(
                        [str(source)], output_dir=folder, extra_postargs=compile_flags
                    )
                    self.compiler.link_executable(
                        objects, str(Path(folder) / "trial"), extra_postargs=link_flags
                    )
                except Exception:  # the compiler's own error classes differ by setuptools release
                    continue
                return compile_flags, link_flags
        print("fastbp: this compiler has no OpenMP; the core is built for one thread", file=sys.stderr)
        return [], []


class SourceDistribution(sdist):
    """Pack all that the tests and the benchmarks need, beside what is built and installed."""

    def make_distribution(self) -> None:
        for folder in ("tests", "benchmarks"):
            self.filelist.recursive_include(folder, "*")
        self.filelist.recursive_exclude("*", "*.py[co]")
        super().make_distribution()


levels = list(LEVELS) if X86 else ["base"]
# What the extensions are made of: rebuilt when it changes, and packed into a source distribution.
sources = sorted(str(path) for path in Path("src_cython").iterdir())
extensions = [Extension("fastbp._cpu", ["src_cython/cpu.pyx"], depends=sources)] + [
    Extension(
        f"fastbp._core_{level}",
        [f"src_cython/core_{level}.pyx"],
        include_dirs=["src_cython"],
        depends=sources,
    )
    for level in levels
]

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["src_cython"],
        build_dir=f"build/{KIND}/cython",
        nthreads=0,
        # Division as C has it: a check for zero in a loop would keep the compiler from making vectors of it.
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildLevels, "sdist": SourceDistribution},
    options={
        "build": {"build_base": f"build/{KIND}"},
        "build_ext": {"parallel": os.cpu_count()},
    },
)
