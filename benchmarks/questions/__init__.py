"""One question each: scripts that write what they find as JSON, for benchmarks/results/."""
