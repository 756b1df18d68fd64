"""Values: what was asked for, what was pinned, what was built. Pure: no disk, network, clock or environment."""
