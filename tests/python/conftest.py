"""Unit tests of the Python parts; they need neither a session nor the native module."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import fake_raylet

fake_raylet.install_if_missing()
