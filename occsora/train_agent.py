"""Train a driver by reinforcement learning, in the world model or in the reference world: PPO or SAC on a batch of worlds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor

from agents.algorithms import explore, make_agent
from agents.checkpoint import History, begin_with, newest, restore, save_policy
from agents.imitation import EPOCHS, Demonstration, demonstrate, imitate, join
from agents.load import load_planner
from agents.sb3 import Sb3VecEnv
from agents.scaled_reward import ScaledReward
from agents.training_callbacks import Checkpoints, EpisodeLog, Evaluation, ProgressBar
from occsora import evaluate
from occsora.driving import find_model
from occsora.learning_curve import Episode, plot, show

WORLDS = {"dream": "OccSora-v0", "reference": "OccSoraReference-v0"}
REWARD_SCALE = 0.1  # of what the agent learns from; monitors, evaluations and the learning curve see rewards as they are
_JUDGED, _COMPARED, _SHOWN = 1_000_000, 2_000_000, 3_000_000  # added to --seed: starts other than those of the training


@dataclass(frozen=True)
class TrainAgent:
    """Settings of the training."""

    algo: Literal["ppo", "sac"] = "ppo"
    """Algorithm of stable-baselines3."""
    world: Literal["dream", "reference"] = "dream"
    """Where it learns: in the world model, or with true dynamics."""
    steps: int = 4096
    """Environment steps in all worlds together, those before --resume included; with --imitate it may be 0."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    num_envs: int = 4
    """Worlds that are driven side by side."""
    starts: int = 96
    """Moments of the scenes that episodes begin at."""
    observation: Literal["bev", "tokens", "occupancy"] = "bev"
    """What the policy sees."""
    action: Literal["control", "discrete"] = "control"
    """What the policy does; SAC knows `control` only."""
    scenes: Path | None = None
    """Folder or file to start from: scene files, or ScenarioNet recordings (.pkl). The bundled scenes by default."""
    held_out: Path | None = None
    """The same for the evaluations. By default the bundled scenes, from other starts."""
    model: str | None = None
    """World model: a name, a folder, a hub id, or "warp", the rigid baseline. The bundled one by default."""
    out: Path = Path("runs/agent")
    """Folder for the policies, checkpoints, TensorBoard logs, the learning curve and the evaluation."""
    checkpoint_every: int = 2048
    """Environment steps between checkpoints; they fall between two rollouts."""
    evaluate_every: int = 2048
    """Environment steps between evaluations, the best of which keeps best.zip; the first comes before the training."""
    evaluation_episodes: int = 4
    """Episodes of each evaluation; 0 for none."""
    final_episodes: int = 3
    """Start states of the closing table of policy, cv, stop and random; 0 for no table."""
    policy: Path | None = None
    """File of a policy to begin with, such as the imitated.zip or ppo.zip of another training."""
    imitate: str | None = None
    """Planner of `control` actions whose driving PPO imitates before it learns from its own: idm, pure-pursuit, lattice and
    the others of that kind that `occsora demo --help` names."""
    imitate_steps: int = 2048
    """Environment steps in all worlds that are imitated, in all rounds together; they come on top of --steps."""
    imitate_rounds: int = 4
    """In the first of these the planner drives; in the others the policy does, and the planner says what it would do there."""
    imitate_world: Literal["dream", "reference"] | None = None
    """Where that is: the reference world gives several times as many steps a second on a CPU. By default --world."""
    penalty: float = 5.0
    """Weight of a collision, of leaving the road and of leaving the route in the reward that it learns from. The environment's
    own weights, by which it is evaluated, are 20 and 10; with these it learns to stand still before it learns to drive."""
    exploration: float | None = None
    """Standard deviation of PPO's pedal and wheel, 1 being full throttle and full lock, when it begins to learn from its own
    driving. By default 0.22, or what imitation or --policy leaves."""
    learning_rate: float | None = None
    """Step size of the optimizer at the start; it falls linearly to a tenth. By default that of the algorithm's settings."""
    seed: int = 0
    """Decides starts, futures, initial weights and exploration."""
    device: str = "cpu"
    """Where world model and policy live."""


COMMAND = TrainAgent


def run(config: TrainAgent) -> None:
    """Train, save the policy, show the learning curve and the evaluation; raises ValueError on settings that make no sense."""
    _check(config)
    console = Console()
    checkpoint = newest(config.out / "checkpoints", config.algo)
    if config.resume and checkpoint is None:
        raise FileNotFoundError(f"--resume: {config.out / 'checkpoints'} holds no checkpoint of {config.algo}")
    if checkpoint is not None and not config.resume:
        raise ValueError(
            f"--out: {config.out} holds a training of {config.algo}; --resume goes on with it, or name another folder"
        )
    done = 0 if checkpoint is None else int(checkpoint.stem.split("_")[-2])
    config.out.mkdir(parents=True, exist_ok=True)
    env = make_worlds(config, config.num_envs, config.scenes, weights=_penalties(config))
    agent = make_agent(
        config.algo,
        ScaledReward(env, REWARD_SCALE),
        config.observation,
        config.steps,
        learning_rate=config.learning_rate,
        token_shape=env.get_attr("simulator")[0].model.token_shape,
        seed=config.seed + done,  # a resumed training draws its starts in another order
        device=config.device,
        log=config.out,
    )
    history = History() if checkpoint is None else restore(agent, checkpoint, _lasting(config))
    if checkpoint is None and config.policy is not None:
        begin_with(agent, config.policy)
    if checkpoint is None and config.imitate is not None:
        _imitate(config, agent, env, console)
    if checkpoint is None and config.exploration is not None:
        explore(agent, config.exploration)
    _learn(config, agent, history, console)
    path = save_policy(agent, config.out / f"{config.algo}.zip")
    env.close()
    _show(config, history, path, console)
    if config.final_episodes:
        _compare(config, path, console)


def _check(config: TrainAgent) -> None:
    steps = ("steps", 0 if config.imitate else 1)
    for name, least in (steps, ("num_envs", 1), ("starts", 1), ("checkpoint_every", 1), ("evaluate_every", 1)):
        if getattr(config, name) < least:
            raise ValueError(f"--{name.replace('_', '-')}: expected {least} or more, found {getattr(config, name)}")
    for name in ("evaluation_episodes", "final_episodes"):
        if getattr(config, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')}: expected 0 or more, found {getattr(config, name)}")
    if config.policy is not None and config.imitate is not None:
        raise ValueError("--policy, --imitate: expected one of the two, found both")
    if config.imitate is not None and (config.algo, config.action) != ("ppo", "control"):
        raise ValueError(f"--imitate: PPO with 'control' actions can, found {config.algo} with {config.action!r}")
    least = config.imitate_rounds * config.num_envs
    if config.imitate is not None and (config.imitate_rounds < 1 or config.imitate_steps < least):
        expected = f"1 round or more, and {least} steps, one a world and round, or more"
        raise ValueError(f"--imitate-steps: expected {expected}, found {config.imitate_rounds} and {config.imitate_steps}")
    if not config.penalty >= 0:
        raise ValueError(f"--penalty: expected 0 or more, found {config.penalty}")
    if config.exploration is not None and not (config.exploration > 0 and (config.algo, config.action) == ("ppo", "control")):
        expected = "a number above 0, for PPO with 'control' actions"
        raise ValueError(f"--exploration: expected {expected}, found {config.exploration} for {config.algo}")
    if config.algo == "sac" and config.action == "discrete":
        raise ValueError("--action: SAC needs 'control' actions, found 'discrete'")
    if config.held_out is not None and not config.held_out.exists():
        raise FileNotFoundError(f"--held-out: {config.held_out} does not exist")


def _lasting(config: TrainAgent) -> dict[str, str | float | None]:
    """What a resumed training has to share with the one before."""
    names = ("algo", "world", "observation", "action", "num_envs", "starts", "penalty", "learning_rate", "seed", "model")
    return {name: getattr(config, name) for name in names} | {"scenes": config.scenes and str(config.scenes)}


def _penalties(config: TrainAgent) -> dict[str, float]:
    """Weights of the reward that differ from the environment's own."""
    return dict.fromkeys(("collision", "offroad", "offroute"), config.penalty)


def make_worlds(config: TrainAgent, num_envs: int, scenes: Path | None, **settings: Any) -> VecMonitor:
    """A batch of worlds as stable-baselines3 takes it; `settings` are those of `gymnasium.make_vec`.

    The moments that they start from follow from --seed, unless `bank_seed` is among the settings.
    """
    worlds = gymnasium.make_vec(
        WORLDS[config.world],
        num_envs=num_envs,
        scenes=scenes,
        world_model=find_model(config.model),
        observation=config.observation,
        action=config.action,
        device=config.device,
        **{"bank_size": config.starts, "bank_seed": config.seed} | settings,
    )
    return VecMonitor(Sb3VecEnv(worlds))


def _imitate(config: TrainAgent, agent: BaseAlgorithm, env: VecMonitor, console: Console) -> None:
    """Let the planner drive, then the agent under its eyes; the agent begins as what it learned from that."""
    assert isinstance(agent, PPO)
    world = config.imitate_world or config.world
    if world != config.world:
        env = make_worlds(replace(config, world=world), config.num_envs, config.scenes, weights=_penalties(config))
    batch = env.unwrapped
    assert isinstance(batch, Sb3VecEnv)
    planner = load_planner(str(config.imitate), batch.env, config.seed)
    each, shown = config.imitate_steps // config.imitate_rounds, list[Demonstration]()
    for number in range(config.imitate_rounds):
        learner, who = (agent, "the policy") if shown else (None, config.imitate)
        with console.status(f"round {number + 1} of {config.imitate_rounds}: {who} drives {each} steps"):
            seed = config.seed + _SHOWN + number * config.num_envs  # a world's seed follows from that of its neighbour
            drive = demonstrate(batch.env, planner, each, gamma=agent.gamma, scale=REWARD_SCALE, seed=seed, learner=learner)
        shown.append(drive)
        with console.status(f"learning to drive like {config.imitate}"):
            errors = imitate(agent, join(shown), EPOCHS, config.seed + number)
        told = ", ".join(f"{name} {value:.4f}" for name, value in errors.items())
        line = f"imitation, round {number + 1}: {who} drove {len(drive.actions)} steps; mean squared errors: {told}"
        console.print(line, soft_wrap=True)
    if world != config.world:
        env.close()
    console.print(f"imitated {config.imitate}: {save_policy(agent, config.out / 'imitated.zip')}", soft_wrap=True)


def _learn(config: TrainAgent, agent: BaseAlgorithm, history: History, console: Console) -> None:
    """Make the steps that are left, with evaluations before checkpoints so that these know the best policy so far."""
    callbacks: list[BaseCallback] = [EpisodeLog(history)]
    judged = None
    if config.evaluation_episodes:
        seed, best = config.seed + _JUDGED, config.out / "best.zip"
        judged = make_worlds(config, min(config.num_envs, config.evaluation_episodes), config.held_out, bank_seed=seed)
        callbacks.append(Evaluation(config.evaluate_every, judged, config.evaluation_episodes, seed, history, best))
    checkpoints = config.out / "checkpoints"
    callbacks.append(Checkpoints(config.checkpoint_every, history, checkpoints, config.algo, _lasting(config)))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    left = config.steps - agent.num_timesteps
    if left > 0:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"training {config.algo.upper()}", total=config.steps)
            callbacks.append(ProgressBar(lambda count: bar.advance(task, count)))
            agent.learn(left, callback=callbacks, tb_log_name=config.algo, reset_num_timesteps=agent.num_timesteps == 0)
    if judged is not None:
        judged.close()


def _show(config: TrainAgent, history: History, path: Path, console: Console) -> None:
    """Print the learning curve and where everything is."""
    title = f"{config.algo.upper()} on {WORLDS[config.world]}, {config.steps} steps"
    episodes = [Episode(*item) for item in history.episodes]
    show(episodes, title, console)
    console.print(f"policy: {path}", soft_wrap=True)
    if history.best is not None:
        console.print(f"best policy: {config.out / 'best.zip'}, mean return {history.best:+.2f}", soft_wrap=True)
    console.print(f"curve: {plot(episodes, title, config.out / 'learning_curve.png')}", soft_wrap=True)
    console.print(f"TensorBoard: tensorboard --logdir {config.out}")


def _compare(config: TrainAgent, policy: Path, console: Console) -> None:
    """Print the table of `occsora evaluate`: the policy beside simple planners, on starts that decided nothing before."""
    evaluate.run(
        evaluate.Evaluate(
            planners=(f"{config.algo}:{policy}", "cv", "stop", "random"),
            worlds=(config.world,),
            episodes=config.final_episodes,
            seed=config.seed + _COMPARED,
            scenes=config.held_out,
            model=config.model,
            device=config.device,
            out=config.out / f"evaluation_{config.algo}_{config.steps}_steps",
            counterfactuals=0,
            films=0,
        )
    )
