"""The core at level v3."""

include "core.pyx"
