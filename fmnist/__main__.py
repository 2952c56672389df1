"""`python -m fmnist`: see `fmnist.cli.main`."""

from fmnist.cli.main import main
from fmnist.common.exits import one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        main()
