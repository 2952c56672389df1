"""Our sweepers and launchers, where Hydra looks for plugins; each imports its library when used."""
