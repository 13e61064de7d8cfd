"""What core offers to plugins. Every call is checked against the plugin's scopes and audited."""

from typing import Protocol

from latchflow.sdk.email import EmailService
from latchflow.sdk.http import HttpService
from latchflow.sdk.resources import ResourceService
from latchflow.sdk.storage import StorageService
from latchflow.sdk.users import UserService


class Services(Protocol):
    """The services of one call."""

    @property
    def email(self) -> EmailService:
        """Mail."""
        ...

    @property
    def http(self) -> HttpService:
        """HTTP."""
        ...

    @property
    def storage(self) -> StorageService:
        """Bundles, their objects and release links."""
        ...

    @property
    def users(self) -> UserService:
        """The users of the deployment."""
        ...

    @property
    def resources(self) -> ResourceService:
        """Switching bundles and pipelines on and off."""
        ...
