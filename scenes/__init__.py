"""What a driving scene is, and where it comes from: grid, ego motion, sources, rendering to voxels, data sets."""

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution: see occworld_env
