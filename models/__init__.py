"""Tokenizer, diffusion transformer, sampler and the world model they make, with training and metrics."""

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env
