"""Who drives: planners, and the adapter and features for stable-baselines3."""

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env
