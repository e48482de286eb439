"""The core at level base."""

include "core.pyx"
