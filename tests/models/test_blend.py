"""The blend of codes and carried past, and the rollout that is carried along alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.agent_flow import AgentFlow, AgentFlowConfig
from models.blend import Blend
from models.carry_world_model import CarryWorldModel
from models.layers import fold
from models.tokenizer import ChunkTokenizer
from models.warp import UNKNOWN
from scenes.grid import CLASS_ID, FREE
from tests.models.small import CONFIG, GRID, history, make_street

CAR = CLASS_ID["car"]


def made(seed: int = 0) -> tuple[ChunkTokenizer, Blend, Tensor, Tensor]:
    """An untrained tokenizer and blend, snapped latents of a true chunk, and a random carried chunk, half of it unknown."""
    torch.manual_seed(seed)
    tokenizer, blend = ChunkTokenizer(GRID, CONFIG.tokenizer).eval(), Blend(GRID, CONFIG.tokenizer).eval()
    occupancy, _ = history(make_street(), 2)
    latents = tokenizer.snap(tokenizer.encode(occupancy))[1]
    carried = torch.randint(0, GRID.num_classes, occupancy.shape, dtype=torch.uint8)
    carried[:, :, GRID.shape[0] // 2 :] = UNKNOWN
    return tokenizer, blend, latents, carried


@torch.no_grad()
def test_an_untrained_blend_is_the_decoder() -> None:
    tokenizer, blend, latents, carried = made()
    assert torch.equal(blend(tokenizer.decoder, latents, carried), tokenizer.decode(latents))


@torch.no_grad()
def test_trust_counts_where_something_was_seen() -> None:
    """Boundless trust shows the carried past, and the codes where it is unknown; boundless distrust never shows it."""
    tokenizer, blend, latents, carried = made()
    known = carried != UNKNOWN
    blend.trust.bias.fill_(1e4)
    shown = blend(tokenizer.decoder, latents, carried)
    assert torch.equal(shown[known], carried[known])
    assert torch.equal(shown[~known], tokenizer.decode(latents)[~known])
    blend.trust.bias.fill_(-1e4)
    shown = blend(tokenizer.decoder, latents, carried)
    assert not bool((shown[known] == carried[known]).any())


@torch.no_grad()
def test_logits_of_some_places_are_those_of_all() -> None:
    tokenizer, blend, latents, carried = made()
    nn.init.normal_(blend.trust.weight)
    nn.init.normal_(blend.change.weight)
    parts = blend.features(tokenizer.decoder, latents, carried)
    whole = blend.logits(tokenizer.decoder, *parts).flatten(0, 2)
    pick = torch.randperm(len(whole))[:7]
    torch.testing.assert_close(blend.logits(tokenizer.decoder, *(part.flatten(0, 2)[pick] for part in parts)), whole[pick])
    assert torch.equal(parts[2], fold(carried).clamp(max=GRID.num_classes).int())


class Eastward(AgentFlow):
    """A flow that says the same of every agent: one column a frame."""

    def forward(self, above: Tensor, ground: Tensor) -> Tensor:
        speed = torch.tensor((GRID.voxel / 0.25, 0.0))
        return speed.expand(len(above), self.chunk_frames, *GRID.shape[:2], 2)


def test_a_carried_world_goes_on() -> None:
    """Chunk after chunk the cars drive on as the flow says, whole, until they leave the grid; the street stays."""
    occupancy = torch.full((1, 2, *GRID.shape), FREE, dtype=torch.uint8)
    occupancy[..., 0] = CLASS_ID["driveable_surface"]
    occupancy[:, :, 2:8, 14:17, 1:3] = CAR
    model = CarryWorldModel(Eastward(GRID, 2, AgentFlowConfig()))
    rollout = model.start(occupancy, torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.int64))
    for step in range(1, 12):
        voxels = model.advance(rollout, torch.zeros(1, 2, 3)).voxels
        assert voxels is not None
        expected = torch.roll(occupancy[:, 1] == CAR, 2 * step, dims=1)
        assert torch.equal(voxels[:, 1] == CAR, expected)
        assert bool((voxels[..., 0] == CLASS_ID["driveable_surface"]).all())
