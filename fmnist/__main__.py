"""`python -m fmnist`, and the command `fmnist`: see `fmnist.cli.main`."""

from fmnist.cli.main import main
from fmnist.common.exits import one_line_errors


def run() -> None:
    with one_line_errors():
        main()


if __name__ == "__main__":
    run()
