"""Where lists go: an audit, and one module per sink."""
