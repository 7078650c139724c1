"""``/settings``: what is in force on this machine. Secrets are no settings, so none are here."""

from __future__ import annotations

import msgspec

from s3front.admin.endpoint import Call, Endpoint
from s3front.admin.services import AdminServices, SettingInForce


class SettingsInForce(msgspec.Struct, frozen=True):
    """Of the front that answers; all processes of one machine have the same. `release` is of Trivet."""

    release: str
    settings: tuple[SettingInForce, ...]


async def _settings(services: AdminServices, _call: Call) -> SettingsInForce:
    return SettingsInForce(services.release, services.settings)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/settings",
        "getSettings",
        "The settings in force, with their defaults.",
        _settings,
        SettingsInForce,
    ),
)
