"""What workers have to know of their job: written by its driver, read by each worker before it
loads the first function.

It is one JSON object in the key-value table of the GCS.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ray._raylet import Core
    from ray.job_config import JobConfig

_KEY = b"job"


class JobRecord(NamedTuple):
    """The configuration of a job, as far as its processes follow it."""

    import_path: Sequence[str] = ()  # for ``sys.path``
    main_module: str = "__main__"  # what the driver's main module is called in names of functions
    default_actor_lifetime: str = "non_detached"
    logging: dict[str, Any] | None = None  # the fields of a LoggingConfig
    metadata: Mapping[str, str] = {}

    @classmethod
    def of_driver(cls, config: JobConfig) -> JobRecord:
        """The record of the job that this process drives."""
        folders = [*config._py_driver_sys_path, *config.code_search_path, *sys.path]
        logging = config.py_logging_config
        main_file = getattr(sys.modules.get("__main__"), "__file__", None) or "__main__"
        return cls(
            import_path=[os.path.abspath(folder) for folder in folders],
            main_module=os.path.splitext(os.path.basename(main_file))[0],
            default_actor_lifetime=config._default_actor_lifetime,
            logging=None if logging is None else logging.to_dict(),
            metadata=config.metadata,
        )

    def publish(self, core: Core) -> None:
        """Makes it known to the job's workers. Blocks for one request to the raylet."""
        text = json.dumps(self._asdict())
        core.kv_put(_KEY, text.encode(), True, _namespace(core))

    @classmethod
    def read(cls, core: Core) -> JobRecord:
        """The record of this worker's job. Blocks for one request to the raylet."""
        text = core.kv_get(_KEY, _namespace(core))
        return cls() if text is None else cls(**json.loads(text))

    def configure_logging(self) -> None:
        """Lets this process log as the record says."""
        if self.logging is not None:
            from ray._logging_config import LoggingConfig

            LoggingConfig.from_dict(self.logging).apply()


def _namespace(core: Core) -> str:
    return f"job:{core.job_id.hex()}"
