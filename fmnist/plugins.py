"""Where Hydra looks for launchers and sweepers: ours are entered there, too."""

import sys

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin


def entered(plugin: type[Plugin]) -> str:
    """Enter a plugin of this package among Hydra's; return the `_target_` that names it there.

    Hydra makes no launcher and no sweeper of what lies outside of `hydra_plugins`.
    """
    module = plugin.__module__
    package = f"hydra_plugins.{module.replace('.', '_')}"
    sys.modules[package] = sys.modules[module]
    plugin.__module__ = package
    Plugins.instance().register(plugin)
    return f"{package}.{plugin.__name__}"
