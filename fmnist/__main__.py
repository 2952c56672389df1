"""`python -m fmnist`: see `fmnist.cli.main`."""

from fmnist.cli.main import main

main()
