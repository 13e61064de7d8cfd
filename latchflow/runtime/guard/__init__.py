"""The guard between a plugin and core's services: scopes are checked, effects happen once, everything is on record."""

from latchflow.runtime.guard.backends import (
    Backends,
    CallbackBackend,
    EmailBackend,
    HttpBackend,
    ResourceBackend,
    StorageBackend,
    UserBackend,
)
from latchflow.runtime.guard.callbacks import guarded_callback_url
from latchflow.runtime.guard.grant import Grant
from latchflow.runtime.guard.records import EffectState, Intent, Prior, Records, ServiceCall
from latchflow.runtime.guard.services import GuardedServices

__all__ = [
    "Backends",
    "CallbackBackend",
    "EffectState",
    "EmailBackend",
    "Grant",
    "GuardedServices",
    "HttpBackend",
    "Intent",
    "Prior",
    "Records",
    "ResourceBackend",
    "ServiceCall",
    "StorageBackend",
    "UserBackend",
    "guarded_callback_url",
]
