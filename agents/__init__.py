"""Part of OccSora Gym."""

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env
