"""What a driver loads before it defines its first task: time of ``import ray``, and memory for as
long as it lives."""

import pytest

# Each costs milliseconds and hundreds of kilobytes.
HEAVY = (
    "ast",
    "asyncio",
    "bz2",
    "cloudpickle",
    "concurrent.futures",
    "dataclasses",
    "dis",
    "inspect",
    "numpy",
    "ssl",
)

IMPORT = "import ray"
SESSION = "import ray; ray.init(num_cpus=1, log_to_driver=False)"


@pytest.mark.parametrize("program", [IMPORT, SESSION])
def test_heavy_modules_are_not_loaded(run_program, program):
    show = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    output = run_program(f"{program}\n{show}").finish()
    assert output.splitlines()[-1] == "[]"


def test_names_that_are_loaded_late_are_there(run_program):
    output = run_program(
        "import ray\n"
        "missing = [name for name in ray.__all__ if not hasattr(ray, name)]\n"
        "print(missing, set(ray.__all__) - set(dir(ray)))"
    ).finish()
    assert output.splitlines()[-1] == "[] set()"
