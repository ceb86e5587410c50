"""OccSora (arXiv 2405.20337): a tokenizer of whole clips, and a diffusion transformer that makes them from a trajectory."""
