"""Versions: of Ray's interface, as programs check it, and of this implementation."""

RAY_VERSION = "2.60.0"
MANTA_VERSION = "0.1.0"
