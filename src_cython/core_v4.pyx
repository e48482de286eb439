"""The core at level v4."""

include "core.pyx"
