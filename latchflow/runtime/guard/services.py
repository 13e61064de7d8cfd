"""The services one call may use; implements `latchflow.sdk.Services`."""

from latchflow.runtime.guard.backends import Backends
from latchflow.runtime.guard.email import GuardedEmail
from latchflow.runtime.guard.grant import Grant
from latchflow.runtime.guard.http import GuardedHttp
from latchflow.runtime.guard.resources import GuardedResources
from latchflow.runtime.guard.storage import GuardedStorage
from latchflow.runtime.guard.users import GuardedUsers
from latchflow.sdk import EmailService, HttpService, ResourceService, StorageService, UserService


class GuardedServices:
    """Core's services behind the guard of one attempt.

    Args:
        backends: The services of this process.
        grant: What the attempt may do.
        actor: Who is named in the records of what the attempt changes: plugin and capability.
    """

    def __init__(self, backends: Backends, grant: Grant, *, actor: str) -> None:
        self.email: EmailService = GuardedEmail(backends.email, grant)
        self.http: HttpService = GuardedHttp(backends.http, grant)
        self.storage: StorageService = GuardedStorage(backends.storage, grant, actor)
        self.users: UserService = GuardedUsers(backends.users, grant, actor)
        self.resources: ResourceService = GuardedResources(backends.resources, grant, actor)
