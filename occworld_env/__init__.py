"""OccSora Gym: a driving simulator whose dynamics are learned, as the Gymnasium environment `OccSora-v0`.

Importing this package registers it; `gymnasium.make("OccSora-v0")` and `gymnasium.make_vec("OccSora-v0", num_envs=8)` make one.
"""

from occworld_env import _packages as _packages  # first: says which package is in the way, if one is

# isort: split
import gymnasium

from models.interface import Chunk, Rollout, WorldModel
from models.pretrained import from_pretrained
from occworld_env.actions import META_ACTIONS, trajectory_action
from occworld_env.config import MAX_EPISODE_STEPS, EnvConfig, RewardWeights
from occworld_env.observation import BEV_CHANNELS, VECTOR_FIELDS
from occworld_env.simulator import Simulator
from occworld_env.step_result import StepResult
from occworld_env.torch_env import TorchVectorEnv
from scenes.bicycle import Bicycle
from scenes.grid import CLASSES, MINI, OCC3D, Grid
from scenes.scene import Scene

__all__ = [
    "BEV_CHANNELS",
    "CLASSES",
    "META_ACTIONS",
    "MINI",
    "OCC3D",
    "VECTOR_FIELDS",
    "Bicycle",
    "Chunk",
    "EnvConfig",
    "Grid",
    "RewardWeights",
    "Rollout",
    "Scene",
    "Simulator",
    "StepResult",
    "TorchVectorEnv",
    "WorldModel",
    "from_pretrained",
    "trajectory_action",
]

OCCSORA_GYM = "occsora-gym"  # the same in every package of this distribution

if "OccSora-v0" not in gymnasium.registry:
    gymnasium.register(
        id="OccSora-v0",
        entry_point="occworld_env.env:OccSoraEnv",
        vector_entry_point="occworld_env.vector_env:OccSoraVectorEnv",
        max_episode_steps=MAX_EPISODE_STEPS,
    )

if "OccSoraReference-v0" not in gymnasium.registry:
    gymnasium.register(
        id="OccSoraReference-v0",
        entry_point="occworld_env.reference_env:OccSoraReferenceEnv",
        vector_entry_point="occworld_env.reference_env:OccSoraReferenceVectorEnv",
        max_episode_steps=MAX_EPISODE_STEPS,
    )
