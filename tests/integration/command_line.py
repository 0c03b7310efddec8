"""The program ``ray`` as a user runs it, with a folder for sessions of its own."""

import os
import re
import subprocess
import sys

RAY = [sys.executable, "-c", "from ray.scripts import main; main(prog_name='ray')"]


class CommandLine:
    """Runs commands on one machine, or what looks like one: all share a temporary folder."""

    def __init__(self, folder, prefix=()):
        """prefix: words in front of each command, for one that runs elsewhere."""
        unwanted = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        self.environment = {**kept, "RAY_TMPDIR": str(folder)}
        self.prefix = list(prefix)

    def popen(self, *arguments, **environment):
        return subprocess.Popen(
            [*self.prefix, *RAY, *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments, code=0, **environment):
        """What the command prints; fails unless it ends with this code."""
        process = self.popen(*arguments, **environment)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code, output
        return output

    def start_head(self, *arguments, **environment):
        """Starts a small head on a free port of the loopback interface; returns its address."""
        output = self.run(
            *("start", "--head", "--port=0", "--num-cpus=1", "--object-store-memory=80000000"),
            *arguments,
            **environment,
        )
        return re.search(r"ray start --address='([^']+)'", output).group(1)

    def python(self, source, *arguments, **environment):
        """What a Python program prints; fails unless it ends well."""
        run = subprocess.run(
            [*self.prefix, sys.executable, "-c", source, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout
