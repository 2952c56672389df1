"""Who may do what on the server, with its address and a user in MLflow's variables.

python -m deploy.users roles               an admin, once: what the roles allow, and the roles
python -m deploy.users add anna trainer    an admin: a user, whose first password it prints
python -m deploy.users password            everybody: another password for oneself
"""

import getpass
import secrets
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fmnist.cli.main import run_command
from fmnist.common.errors import ConfigError
from fmnist.common.exits import one_line_errors

if TYPE_CHECKING:
    from mlflow.server.auth.client import AuthServiceClient


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    run_command(commands, "python -m deploy.users", arguments)


@click.group(no_args_is_help=False)
def commands() -> None:
    """Say who may do what on the server."""


@commands.command("roles")
def make_roles() -> None:
    """Make the roles trainer and promoter; as an admin.

    The decision log and the model are made, too: they belong to whoever makes them.
    """
    from fmnist.config.schema import Tracking
    from fmnist.registry.decision_log import open_decision_log
    from fmnist.registry.model_names import DEFAULT
    from fmnist.tracking.store import open_store

    server = users_of_server()
    store = open_store(Tracking(None, "fmnist"))
    decision_log = open_decision_log(store, DEFAULT)
    allowed = {
        "trainer": [("experiment", store.experiment_id, "EDIT")],
        "promoter": [
            ("experiment", decision_log.experiment_id, "EDIT"),
            ("registered_model", DEFAULT, "MANAGE"),
        ],
    }
    roles = roles_of(server)
    for name, permissions in allowed.items():
        role = roles[name] if name in roles else server.create_role("default", name).id
        held = {(p.resource_type, p.resource_pattern) for p in server.list_role_permissions(role)}
        for kind, pattern, permission in permissions:
            if (kind, pattern) not in held:
                server.add_role_permission(role, kind, pattern, permission)


@commands.command("add")
@click.argument("name")
@click.argument("role", nargs=-1)
def add_user(name: str, role: Sequence[str]) -> None:
    """Add a user and print a first password; as an admin.

    ROLE is trainer or promoter, or both; a user without any may only read.
    """
    from mlflow.exceptions import MlflowException

    server = users_of_server()
    roles = roles_of(server)
    if unknown := set(role) - roles.keys():
        raise ConfigError(f"role {min(unknown)}: choose one of {', '.join(sorted(roles))}")
    password = secrets.token_urlsafe(16)
    try:
        server.create_user(name, password)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        raise ConfigError(f"user {name}: is there already") from None
    for each in role:
        server.assign_role(name, roles[each])
    print(password)


@commands.command("password")
def change_password() -> None:
    """Change one's own password, which is read from standard input if that is no terminal."""
    from mlflow.utils.credentials import read_mlflow_creds

    server, user = users_of_server(), read_mlflow_creds()
    if not (user.username and user.password):
        raise ConfigError("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to yours")
    terminal = sys.stdin.isatty()
    new = getpass.getpass("new password: ") if terminal else sys.stdin.readline().rstrip("\n")
    server.update_user_password(user.username, new, current_password=user.password)


def users_of_server() -> "AuthServiceClient":
    """Return MLflow's client for the users of the server that MLFLOW_TRACKING_URI names.

    Raises:
        ConfigError: if it names no server.
    """
    from fmnist.tracking.store_uri import address_of, without_password

    address = address_of()
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"tracking store {without_password(address)}: has no users; "
            "name a server, http://..., in MLFLOW_TRACKING_URI"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with the client comes the server, of which is warned
        from mlflow.server.auth.client import AuthServiceClient

    return AuthServiceClient(address)


def roles_of(server: "AuthServiceClient") -> dict[str, int]:
    """Return the id of each role, by name; without those that MLflow keeps for single users."""
    roles = server.list_all_roles()
    return {role.name: role.id for role in roles if not role.name.startswith("__")}


if __name__ == "__main__":
    with one_line_errors():
        main()
