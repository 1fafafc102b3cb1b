"""Speed, memory and growth, as ratios against a peer or a limit."""
