"""What a provider must be."""

import re
from typing import Any

from latchflow.config_schemas import secret_names, template_names
from latchflow.names import normal_form
from latchflow.runtime.contract.checks import check_arity, check_common, check_method, checked_schema
from latchflow.runtime.contract.model import ContractError, ProviderContract
from latchflow.sdk import ProviderDeclaration
from latchflow.settings import owner_of_variable

_METHODS = {"email": ("send",), "storage": ("put", "get", "delete")}
_SECRET_WORDS = frozenset({"SECRET", "TOKEN", "PASSWORD", "PASSWD", "PWD", "KEY", "CREDENTIAL", "CREDENTIALS", "DSN"})
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,127}")


def provider_contract(declaration: ProviderDeclaration) -> ProviderContract:
    """Check one provider.

    Raises:
        ContractError: The first fault.
    """
    where = f"provider {declaration.id!r}"
    check_common(where, declaration.id, declaration.display_name)
    if not normal_form(declaration.id).strip("_"):
        raise ContractError(f"{where}: the id has neither letters nor digits")
    methods = _METHODS.get(declaration.kind)
    if methods is None:
        raise ContractError(f"{where}: the kind {declaration.kind!r} is none of {', '.join(sorted(_METHODS))}")
    check_arity(where, declaration.provider, 1, "(setup)")
    for method in methods:
        if getattr(declaration.provider, method, None) is None:
            raise ContractError(f"{where}: a provider of the kind {declaration.kind} has a method {method}")
        check_method(where, declaration.provider, method, 1, "(self, details)")
    check_method(where, declaration.provider, "find", 1, "(self, delivery)")
    check_method(where, declaration.provider, "dispose", 0, "(self)")
    schema = checked_schema(where, declaration.config_schema)
    if template_names(schema):
        raise ContractError(f"{where}: config_schema: a provider's config holds no expressions; remove the mark")
    _check_defaults(where, declaration.defaults, schema)
    return ProviderContract(
        kind=declaration.kind,
        id=declaration.id,
        display_name=declaration.display_name,
        config_schema=schema,
        defaults=dict(declaration.defaults),
    )


def _check_defaults(where: str, defaults: object, schema: dict[str, Any]) -> None:
    properties, secret = schema.get("properties", {}), secret_names(schema)
    if not isinstance(defaults, dict) or not isinstance(properties, dict):
        raise ContractError(f'{where}: defaults: write a dict like {{"clientId": "GMAIL_CLIENT_ID"}}')
    for name, variable in defaults.items():
        if name not in properties:
            raise ContractError(f"{where}: defaults: {name!r} is no property of the config")
        if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
            raise ContractError(f"{where}: defaults: {variable!r} is not the name of an environment variable")
        owner = owner_of_variable(variable)
        if owner is not None:
            raise ContractError(f"{where}: defaults: {variable} belongs to {owner}; choose a variable of your own")
        if name not in secret and _SECRET_WORDS.intersection(variable.split("_")):
            raise ContractError(
                f"{where}: defaults: {variable} reads as a secret, and the property {name!r} would be shown to admins; "
                "mark it writeOnly in config_schema, or name the variable otherwise"
            )
