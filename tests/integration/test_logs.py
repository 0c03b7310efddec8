"""What workers print appears on the driver."""

import re

HEADER = """
import ray, sys
ray.init(address="local", num_cpus=4, include_dashboard=False{arguments})

@ray.remote
def speak(text):
    print(text)
    print(text + " to stderr", file=sys.stderr)

@ray.remote(num_cpus=0)
class Speaker:
    def speak(self, text):
        print(text)
"""


def plain(text):
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_lines_carry_name_and_pid(run_program):
    program = run_program(
        HEADER.format(arguments="")
        + """
ray.get(speak.remote("hello from a task"))
ray.get(Speaker.remote().speak.remote("hello from an actor"))
"""
    )
    output = plain(program.finish())
    assert re.search(r"^\(speak pid=\d+\) hello from a task$", output, re.MULTILINE), output
    assert re.search(r"^\(speak pid=\d+\) hello from a task to stderr$", output, re.MULTILINE)
    assert re.search(r"^\(Speaker pid=\d+\) hello from an actor$", output, re.MULTILINE)


def test_prefix_is_coloured(run_program):
    program = run_program(HEADER.format(arguments="") + 'ray.get(speak.remote("bright"))')
    assert re.search(r"\x1b\[\d+m\(speak pid=\d+\)\x1b\[0m bright", program.finish())


def test_equal_lines_of_many_workers_are_folded(run_program):
    program = run_program(
        HEADER.format(arguments="")
        + """
speakers = [Speaker.remote() for _ in range(6)]
ray.get([speaker.speak.remote("all together now") for speaker in speakers])
"""
    )
    lines = [line for line in plain(program.finish()).splitlines() if "all together now" in line]
    assert len(lines) == 2, lines
    assert "repeated 5x" in lines[1]


def test_nothing_is_forwarded_when_switched_off(run_program):
    program = run_program(
        HEADER.format(arguments=", log_to_driver=False")
        + """
ray.get(speak.remote("unheard"))
print("end")
"""
    )
    output = program.finish()
    assert "end" in output
    assert "unheard" not in output


def test_long_and_unusual_lines_arrive_whole(run_program):
    program = run_program(
        HEADER.format(arguments="")
        + r"""
ray.get(speak.remote("x" * 20_000))
ray.get(speak.remote("naïve ☂ \t tab"))
"""
    )
    output = plain(program.finish())
    assert "x" * 20_000 in output
    assert "naïve ☂ \t tab" in output
