"""The `occsora` program: one file a command."""

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env
