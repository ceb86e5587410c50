"""How far clips, reconstructed or imagined, are from true ones; see docs/metrics.md."""
