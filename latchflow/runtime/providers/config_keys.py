"""The keys of the system config: what each may hold, what of it people may read, and what stands in for it."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from latchflow.config_schemas import MASK, keep_secrets, mask_secrets, secret_names
from latchflow.errors import ConfigurationError, FieldError, InvalidInputError
from latchflow.runtime.providers.provider_configs import check_stored, effective
from latchflow.services.egress import EgressGuard
from latchflow.services.email import parse_sender, parse_smtp_url
from latchflow.settings import Settings
from latchflow.store.system_config import KnownProvider

SMTP_URL = "SMTP_URL"
SMTP_FROM = "SMTP_FROM"
HTTP_EGRESS_ALLOW = "HTTP_EGRESS_ALLOW"

_LONGEST = 65536
_ADDRESS = re.compile(r"url|uri|host|endpoint|server|domain|proxy|port|bucket", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A value as people may read it.

    Attributes:
        source: ``database``, ``env``, or None when neither has one.
        fields: Of a provider's config, the source of each property.
        problem: Why the value cannot be used.
        effective: What holds where the environment adds to the value.
    """

    value: Any
    source: str | None
    fields: Mapping[str, str] | None = None
    problem: str | None = None
    effective: str | None = None


class ConfigKey(Protocol):
    """One key."""

    @property
    def name(self) -> str:
        """The key itself."""
        ...

    def checked(self, value: Any, stored: Any) -> Any:
        """The value to store, with what is masked in it put back from `stored`.

        Raises:
            InvalidInputError: With pointers below ``/value``.
        """
        ...

    def fields(self, value: Any) -> Sequence[str]:
        """The names of what the value holds, for the audit."""
        ...

    def shown(self, stored: Any) -> Shown:
        """What holds now, `stored` or from the environment; None is nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class TextKey:
    """A key that holds a text, and is a setting of the environment too."""

    name: str
    default: str
    parse: Callable[[str], object]

    def checked(self, value: Any, stored: Any) -> Any:
        """As `ConfigKey.checked`."""
        if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
            raise _fault("Send a text that is not empty. To go back to the environment, delete the key.")
        text = self._unmasked(value, stored)
        try:
            self.parse(text)
        except ConfigurationError as error:
            raise _fault(error.message) from None
        return text

    def fields(self, value: Any) -> Sequence[str]:
        """As `ConfigKey.fields`."""
        return ("value",)

    def shown(self, stored: Any) -> Shown:
        """As `ConfigKey.shown`."""
        if stored is not None:
            return Shown(value=self._masked(stored), source="database")
        if self.default:
            return Shown(value=self._masked(self.default), source="env")
        return Shown(value=None, source=None)

    def _unmasked(self, value: str, stored: Any) -> str:
        return value

    def _masked(self, text: str) -> str:
        return text


@dataclass(frozen=True, kw_only=True)
class ListKey(TextKey):
    """A list that holds together with that of the environment."""

    def joined(self, stored: Any) -> str:
        """The list that holds."""
        return ",".join(part for part in (self.default, stored) if part)

    def shown(self, stored: Any) -> Shown:
        """As `ConfigKey.shown`."""
        return replace(super().shown(stored), effective=self.joined(stored) or None)


@dataclass(frozen=True, kw_only=True)
class UrlKey(TextKey):
    """A text that is a URL with a password in it."""

    def _unmasked(self, value: str, stored: Any) -> str:
        if f":{MASK}@" not in value:
            return value
        # Kept for the same server and user only: a password must not go where it was not meant for.
        if not isinstance(stored, str) or self._masked(stored) != value:
            raise _fault("There is no stored password to keep for this user and server. Send the password itself.")
        return stored

    def _masked(self, text: str) -> str:
        try:
            login, at, _server = urlsplit(text).netloc.rpartition("@")
        except ValueError:
            return MASK
        user, colon, _ = login.partition(":")
        return text.replace(f"{login}@", f"{user}:{MASK}@", 1) if at and colon else text


@dataclass(frozen=True, kw_only=True)
class ProviderKey:
    """The config of a provider."""

    name: str
    provider: KnownProvider

    def checked(self, value: Any, stored: Any) -> Any:
        """As `ConfigKey.checked`; a masked secret that comes from the environment goes on coming from there."""
        schema, defaults = self.provider.config_schema, self.provider.defaults
        if not isinstance(value, Mapping):
            raise _fault("Send an object: the config of the provider.")
        before = effective(schema, defaults, stored)
        sources = before.sources
        secret = secret_names(schema)
        sent = {name for name, part in value.items() if part != MASK}
        value = {
            name: part
            for name, part in value.items()
            if not (name in secret and part == MASK and sources.get(name) == "env")
        }
        try:
            value = keep_secrets(schema, value, stored)
        except InvalidInputError as error:
            faults = [
                FieldError(pointer="/value" + fault.pointer.removeprefix("/config"), message=fault.message)
                for fault in error.errors
            ]
            raise InvalidInputError(error.message, faults) from None
        check_stored(schema, defaults, value)
        self._refuse_other_addresses(before.values, effective(schema, defaults, value).values, sent)
        return value

    def _refuse_other_addresses(
        self, before: Mapping[str, Any], after: Mapping[str, Any], sent: Collection[str]
    ) -> None:
        """A secret that the caller did not send goes only where it went before."""
        kept = (secret_names(self.provider.config_schema) & after.keys()) - set(sent)
        moved = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        moved = [
            name for name in moved if _ADDRESS.search(name) or _is_url(before.get(name)) or _is_url(after.get(name))
        ]
        if kept and moved:
            message = f"This would lead stored secrets elsewhere. Send {', '.join(sorted(kept))} with it."
            fault = FieldError(pointer=f"/value/{moved[0]}", message=message)
            raise InvalidInputError("A stored secret is not sent to another address.", [fault])

    def fields(self, value: Any) -> Sequence[str]:
        """As `ConfigKey.fields`."""
        return sorted(value)

    def shown(self, stored: Any) -> Shown:
        """As `ConfigKey.shown`."""
        schema = self.provider.config_schema
        config = effective(schema, self.provider.defaults, stored)
        if not (config.is_stored or config.sources):
            return Shown(value=None, source=None, fields={})
        return Shown(
            value=mask_secrets(schema, dict(config.values)),
            source="database" if config.is_stored else "env",
            fields=config.sources,
            problem=config.problem,
        )


def egress_key(settings: Settings) -> ListKey:
    """``HTTP_EGRESS_ALLOW``."""
    return ListKey(name=HTTP_EGRESS_ALLOW, default=settings.http_egress_allow, parse=EgressGuard)


def known_keys(settings: Settings, providers: Iterable[KnownProvider]) -> dict[str, ConfigKey]:
    """Every key there is, by its name."""
    keys: list[ConfigKey] = [
        UrlKey(name=SMTP_URL, default=settings.smtp_url.get_secret_value(), parse=parse_smtp_url),
        TextKey(name=SMTP_FROM, default=settings.smtp_from, parse=parse_sender),
        egress_key(settings),
        *(ProviderKey(name=provider.key, provider=provider) for provider in providers),
    ]
    return {key.name: key for key in sorted(keys, key=lambda key: key.name)}


def unknown_key(name: str, known: Iterable[str]) -> InvalidInputError:
    """What to raise about a key that there is not."""
    fault = FieldError(pointer="", message=f"There is no such key. The keys are {', '.join(known)}.")
    return InvalidInputError(f"{name[:200]!r} is no key of the system config.", [fault])


def _is_url(value: object) -> bool:
    return isinstance(value, str) and "://" in value


def _fault(message: str) -> InvalidInputError:
    return InvalidInputError("The value cannot be stored.", [FieldError(pointer="/value", message=message)])
