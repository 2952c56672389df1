"""Who may do what on the server, with its address and a user in MLflow's variables.

python -m deploy.users roles               an admin, once: what the roles allow, and the roles
python -m deploy.users add anna trainer    an admin: a user, whose first password it prints
python -m deploy.users password            everybody: another password for oneself
"""

import argparse
import getpass
import secrets
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmnist.cli.main import Parser
from fmnist.common.errors import ConfigError
from fmnist.common.exits import one_line_errors

if TYPE_CHECKING:
    from mlflow.server.auth.client import AuthServiceClient


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    parser = Parser(prog="python -m deploy.users", description="Who may do what on the server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    roles = commands.add_parser("roles", help="make the roles trainer and promoter; as an admin")
    roles.set_defaults(command=make_roles)
    add = commands.add_parser("add", help="add a user and print a first password; as an admin")
    add.set_defaults(command=add_user)
    add.add_argument("name")
    add.add_argument("role", nargs="*", help="trainer, promoter; without any: may only read")
    password = commands.add_parser("password", help="change one's own password")
    password.set_defaults(command=change_password)
    options = parser.parse_args(arguments)
    options.command(options)


def make_roles(options: argparse.Namespace) -> None:
    """Make the roles, and as the admin what they are about: it belongs to whoever makes it."""
    from fmnist.config.schema import Tracking
    from fmnist.registry.decision_log import MODEL, open_decision_log
    from fmnist.tracking.store import open_store

    server = users_of_server()
    store = open_store(Tracking(None, "fmnist"))
    ledger = open_decision_log(store)
    allowed = {
        "trainer": [("experiment", store.experiment_id, "EDIT")],
        "promoter": [
            ("experiment", ledger.experiment_id, "EDIT"),
            ("registered_model", MODEL, "MANAGE"),
        ],
    }
    there = roles_of(server)
    for name, permissions in allowed.items():
        role = there[name] if name in there else server.create_role("default", name).id
        held = {(p.resource_type, p.resource_pattern) for p in server.list_role_permissions(role)}
        for kind, which, permission in permissions:
            if (kind, which) not in held:
                server.add_role_permission(role, kind, which, permission)


def add_user(options: argparse.Namespace) -> None:
    """Add a user with roles, and print the first password.

    Raises:
        ConfigError: if there is such a user already, or no such role.
    """
    from mlflow.exceptions import MlflowException

    server = users_of_server()
    roles = roles_of(server)
    if unknown := set(options.role) - roles.keys():
        raise ConfigError(f"role {min(unknown)}: choose one of {', '.join(sorted(roles))}")
    password = secrets.token_urlsafe(16)
    try:
        server.create_user(options.name, password)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        raise ConfigError(f"user {options.name}: is there already") from None
    for role in options.role:
        server.assign_role(options.name, roles[role])
    print(password)


def change_password(options: argparse.Namespace) -> None:
    """Ask for another password, or read it where standard input is no terminal.

    Raises:
        ConfigError: if it is not known who asks.
    """
    from mlflow.utils.credentials import read_mlflow_creds

    server, user = users_of_server(), read_mlflow_creds()
    if not (user.username and user.password):
        raise ConfigError("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to yours")
    asked = sys.stdin.isatty()
    new = getpass.getpass("new password: ") if asked else sys.stdin.readline().rstrip("\n")
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
