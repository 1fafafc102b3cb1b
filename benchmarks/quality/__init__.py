"""The proof: every figure of docs/benchmarks.md, remade from nothing by ``python -m benchmarks.quality``."""
