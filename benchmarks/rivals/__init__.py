"""Neural rivals from the literature, one compact faithful file each; ``FAMILY`` is what the ring plugs in."""
