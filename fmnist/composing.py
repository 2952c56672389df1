"""What is checked before Hydra composes: the command line, and each file of configuration.

A folder of configuration (`--config-dir`) is trusted like code, since Hydra's own part of it names
what to run. But a file that somebody else wrote does not fill the memory.
"""

import math
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.plugins.config_source import ConfigResult

from fmnist.errors import ConfigError, usage_error

LONGEST_OVERRIDE = 20_000  # characters; Hydra's parser takes a second for so many brackets
LARGEST_FILE = 1 << 16  # bytes
MOST_VALUES = 10_000  # in a file, aliases written out; ours have less than a hundred


def check_command_line() -> None:
    """Refuse what Hydra would tell in several lines, take minutes for, or run unseen.

    Raises:
        ConfigError: if an override is too long, or if a pickled job is to be run again.
    """
    parser = get_args_parser()
    parser.error = partial(usage_error, parser)  # type: ignore[method-assign]
    options = parser.parse_args()
    if options.experimental_rerun:
        raise ConfigError("--experimental-rerun: runs whatever the file holds; type the overrides")
    for override in options.overrides:
        if len(override) > LONGEST_OVERRIDE:
            raise ConfigError(
                f"{override[:100]}...: {len(override):,} characters, the most is "
                f"{LONGEST_OVERRIDE:,}"
            )


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of configuration files, under its name, that looks at a file first."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file, unless it is huge or becomes so (a "YAML bomb")."""
        check_file(Path(self.path, self._normalize_file_name(config_path)))
        return super().load_config(config_path)


def check_file(path: Path) -> None:
    """Refuse a configuration file that is huge, or whose aliases make it so.

    Raises:
        ConfigError: if it is, or if it cannot be read.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise ConfigError(f"{path}: has more than {LARGEST_FILE:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        # Without an anchor there is no alias, and Hydra alone need read the file.
        whole = yaml.compose(text, yaml.SafeLoader) if "&" in text else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML that can be read: {error}") from error
    if _values(whole, {}) > MOST_VALUES:
        raise ConfigError(f"{path}: has more than {MOST_VALUES:,} values, aliases written out")


def _values(node: Any, known: dict[int, float]) -> float:
    """Count the values of a node and below; infinitely many if it contains itself."""
    if isinstance(node, yaml.CollectionNode) and id(node) not in known:
        known[id(node)] = math.inf
        pairs = isinstance(node, yaml.MappingNode)
        children = chain.from_iterable(node.value) if pairs else node.value
        known[id(node)] = 1 + sum(_values(child, known) for child in children)
    return known.get(id(node), 1)


SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
