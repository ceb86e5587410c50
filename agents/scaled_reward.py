"""Rewards of a size that a network learns values of: returns of some tens would drown the policy's gradient in the critic's."""

from __future__ import annotations

from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn, VecEnvWrapper


class ScaledReward(VecEnvWrapper):
    """The environment with its rewards times `scale`; put it around VecMonitor, whose returns then stay the true ones."""

    def __init__(self, venv: VecEnv, scale: float) -> None:
        super().__init__(venv)
        self.scale = scale

    def reset(self) -> VecEnvObs:
        """See `VecEnv.reset`."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observation, reward, done, infos = self.venv.step_wait()
        return observation, reward * self.scale, done, infos
