"""Calls of methods whose results leave their tensors at the actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray._raylet import ObjectRef
from ray.experimental.rdt.rdt_manager import MANAGER
from ray.experimental.rdt.transports import TRANSPORTS

if TYPE_CHECKING:
    from ray._raylet import ActorClient, TaskTemplate
    from ray.actor import ActorInterface


def submitter(
    client: ActorClient, interface: ActorInterface, transport: str
) -> Callable[[TaskTemplate, tuple[Any, ...], dict[str, Any] | None], Any]:
    """What submits such calls in the place of ``client.submit``.

    Args:
        client: the way to the actor.
        interface: what is known of its class.
        transport: its name, in capitals.
    """

    def submit(template: TaskTemplate, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        from ray.actor import ActorHandle

        TRANSPORTS.publish()
        actor: ActorHandle[Any] = ActorHandle(client, interface, None)
        if not MANAGER.actor_has_tensor_transport(actor, transport):
            raise ValueError(f"{actor} does not have the tensor transport {transport} available.")
        result = client.submit(template, args, kwargs)
        for ref in result if isinstance(result, list) else [result]:
            if isinstance(ref, ObjectRef):
                MANAGER.add_rdt_ref(ref, actor, transport)
        return result

    return submit
