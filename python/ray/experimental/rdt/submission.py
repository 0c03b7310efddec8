"""Calls of methods whose results leave their tensors at the actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.experimental.rdt.rdt_manager import MANAGER
from ray.experimental.rdt.transports import TRANSPORTS

if TYPE_CHECKING:
    from ray._actor_interface import ActorInterface
    from ray._raylet import ActorClient, ObjectRef, TaskTemplate


def submitter(
    client: ActorClient, interface: ActorInterface, transport: str
) -> Callable[[TaskTemplate, tuple[Any, ...], dict[str, Any] | None], Any]:
    """What submits such calls in the place of ``client.submit``.

    Args:
        client: the way to the actor.
        interface: what is known of its class.
        transport: its name, in capitals.
    """

    is_known_to_have_it = False

    def submit(template: TaskTemplate, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        nonlocal is_known_to_have_it
        TRANSPORTS.publish()
        if not is_known_to_have_it:
            _require_transport(client, interface, transport)
            is_known_to_have_it = True
        ref: ObjectRef[Any] = client.submit(template, args, kwargs)
        MANAGER.add_rdt_ref(ref, None, transport)
        return ref

    return submit


def _require_transport(client: ActorClient, interface: ActorInterface, transport: str) -> None:
    from ray.actor import ActorHandle  # Builds upon this module.

    actor: ActorHandle[Any] = ActorHandle(client, interface, None)
    if not MANAGER.actor_has_tensor_transport(actor, transport):
        raise ValueError(f"{actor} does not have the tensor transport {transport} available.")
