"""What the admin API of a front is given: the places of this machine, the supervisor's ear, the settings."""

from __future__ import annotations

import asyncio

from cluster.version import VERSION
from compose import configuration, control, running
from compose.data_dir import DataDir
from compose.settings import Settings, default_text, table
from s3front.admin.services import AdminServices, SettingInForce
from s3front.services import FrontServices

SETTLE_WAIT_S = 60.0


def admin_services(front: FrontServices, settings: Settings) -> AdminServices:
    """For the front that runs with `settings`."""
    place = DataDir(settings.data)

    async def settle_nodes() -> list[str]:
        return await asyncio.to_thread(settle, place)

    return AdminServices(
        front=front,
        homes=place,
        settle_nodes=settle_nodes,
        supervised=lambda: running.supervisor_pid(place) is not None,
        settings=in_force(settings),
        width=settings.width,
        release=VERSION,
    )


def in_force(settings: Settings) -> tuple[SettingInForce, ...]:
    """All of them, as their variables would be written, without secrets."""
    return tuple(
        SettingInForce(
            name,
            setting.env,
            configuration.shown(setting, setting.render(getattr(settings, name))),
            default_text(name),
            setting.help,
        )
        for name, setting in table().items()
    )


def settle(place: DataDir, wait_s: float = SETTLE_WAIT_S) -> list[str]:
    """Has the supervisor run the nodes that the catalog has; what a person should know of it."""
    try:
        reply = control.tell(place.control, control.REFRESH, wait_s)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: no answer of ours
        return [f"the change is made, but the supervisor has not said yet that it took it over: {error}"]
    if reply is None:
        return ["the change is made, but no `trivet up` runs here: start or stop the node's process yourself"]
    return reply.problems
