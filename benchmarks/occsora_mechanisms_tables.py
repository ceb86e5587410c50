"""The figures of occsora_mechanisms.py for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def tables(result: dict[str, Any]) -> list[Table]:
    """Reconstruction over the training, error of the noise, distances of all sets, and number of denoising steps."""
    return [_reconstruction_table(result), _noise_table(result["noise"]), _sets_table(result), _farther_table(result)]


def _reconstruction_table(result: dict[str, Any]) -> Table:
    config, found = result["config"], result["tokenizers"]
    names = (config["preset"], config["lean"])
    first = found[names[0]]["moments"][0]
    title = f"Reconstruction of {first['clips']} held-out clips: mIoU / IoU of occupied cells, %; codes used"
    table = Table("step", *names, title=title)
    for moments in zip(*(found[name]["moments"] for name in names), strict=True):
        cells = [f"{_percent(one['miou'])} / {_percent(one['iou'])}; {one['used_codes']}" for one in moments]
        table.add_row(str(moments[0]["step"]), *cells)
    common = found["class frequency"]
    table.add_row("class frequency", f"{_percent(common['miou'])} / {_percent(common['iou'])}")
    return table


def _noise_table(noise: dict[str, Any]) -> Table:
    bands = list(noise["errors"]["full"])
    title = f"Mean squared error of the noise in {noise['clips']} held-out clips, by denoising steps; thousandths"
    table = Table("model", *bands, title=title)
    for name, errors in noise["errors"].items():
        table.add_row(name, *(_interval(_thousandths(errors[band])) for band in bands))
    table.add_section()
    for name, more in noise["farther"].items():
        table.add_row(f"{name}, more than full", *(_interval(_thousandths(more[band])) for band in bands))
    return table


def _sets_table(result: dict[str, Any]) -> Table:
    name, sets = result["features"]["name"], result["sets"]
    clips = next(iter(sets.values()))["clips"]
    title = f"{clips['generated']} clips of each set against {clips['reference']} others that were held out"
    levels = [f"{name}/frame", f"{name}/clip"]
    headings = [f"Fréchet distance, {level}" for level in levels]
    table = Table("set", *headings, "error of motion, m", "and degrees", "another's command, m", "and degrees", title=title)
    for label, one in sets.items():
        distances = {item["of"]: item for item in one["distances"] if item["figure"] == "frechet"}
        motion = {(item["figure"], item["of"]): item["generated"] for item in one["properties"]}
        commands = [(part, of) for of in ("own command", "another's command") for part in ("response_m", "response_deg")]
        table.add_row(label, *(_interval(distances[level]) for level in levels), *(_interval(motion[key]) for key in commands))
    floors = {item["of"]: item["floor"] for item in next(iter(sets.values()))["distances"] if item["figure"] == "frechet"}
    table.add_row(f"true, halves of the reference ({clips['floor']})", *(_number(floors[level]) for level in levels))
    return table


def _farther_table(result: dict[str, Any]) -> Table:
    keys = list(next(iter(result["farther"].values()))["by"])
    table = Table("set", "than", *keys, title="How much farther from the reference, Fréchet distance with its 95 % interval")
    for name, one in result["farther"].items():
        table.add_row(name, one["than"], *(_interval(one["by"][key]) for key in keys))
    table.add_section()
    table.add_row(
        "fewest steps that are not farther than the first", "", *(result["fewest_steps"].get(key, "-") for key in keys)
    )
    return table


def _interval(estimate: dict[str, float | None]) -> str:
    value, low, high = (_number(estimate[name]) for name in ("value", "low", "high"))
    return value if low == "-" else f"{value} ({low} to {high})"


def _thousandths(estimate: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else 1000 * value for name, value in estimate.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
