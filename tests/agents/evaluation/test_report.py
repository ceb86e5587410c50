"""The report holds what was found, stands by itself, and shows in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from agents.evaluation.episode import Episode, StartState, save_episode
from agents.evaluation.film import HOLD, SECONDS, SIZE, draw, film
from agents.evaluation.optimism import Detection
from agents.evaluation.report import Settings, films_wanted, write_report
from agents.evaluation.results import Results, as_json, score_all

Make, Crash = Callable[..., Episode], Callable[[str, int], np.ndarray]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1200,2000"]


@pytest.fixture(scope="module")
def results(drive_straight: Make, last_step_hits: Crash, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three planners, one of which runs into standing cars, in two worlds."""
    car = ("car", 33.6, 0.0, 0.0, 0.0, 4.8, 2.0)
    crash = drive_straight(speed=8.0, steps=8, agents=(car,), collision_class=last_step_hits("car", 8))
    drives = {"<b>cv</b>": crash, "idm": drive_straight(speed=8.0, steps=8), "stop": drive_straight(speed=0.0, steps=8)}
    episodes = [
        replace(episode, world=world, planner=planner, place=StartState(number, f"street {number}", "ego", 1.0, 4.0, number))
        for world in ("dream", "reference")
        for planner, episode in drives.items()
        for number in range(3)
    ]
    folder = tmp_path_factory.mktemp("episodes")
    paths = [folder / f"{number}.npz" for number in range(len(episodes))]
    for episode, path in zip(episodes, paths, strict=True):
        save_episode(episode, path)
    return score_all(("dream", "reference"), {name: name for name in drives}, paths[::-1])


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, with two films a planner and world."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    cases = {"all": dict.fromkeys(("collision", "off-road"), Detection(10, 7, 8, 7))}
    for event in ("a vehicle", "a pedestrian or cyclist", "what stands"):
        cases["all"][f"collision with {event}"] = Detection(0, 0, 0, 0)
    filmed: list[int] = []
    write_report(path, results, cases, Settings("occsora evaluate", {"seed": "0"}, films=2), filmed.append)
    assert sum(filmed) == films_wanted(results, 2) == 4
    return path


def test_results_rank_and_count(results: Results) -> None:
    assert results.ranking("dream") == ["idm", "<b>cv</b>", "stop"]
    assert results.mean("dream", "idm", "score").value == pytest.approx(0.8)
    assert results.collisions("dream", "<b>cv</b>") == {"car": (3, 3)}
    assert results.agreements("dream", "reference")["all planners"].planners == 3
    assert results.agreements("dream", "reference")["without stop and random"].planners == 2
    told = json.loads(json.dumps(as_json(results), allow_nan=False))
    assert told["worlds"]["dream"]["<b>cv</b>"]["collisions"] == {"car": {"any": 3, "at fault": 3}}
    assert told["worlds"]["dream"]["idm"]["episodes"][0]["least_ttc"] is None
    assert told["starts"] == 3


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "poster", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else(report: Path) -> None:
    page = Page(report)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"url\((?!#)|@import", report.read_text(encoding="utf-8"))
    assert [item.name for item in report.parent.iterdir()] == ["report.html"]


def test_the_page_tells_all_and_escapes_names(report: Path) -> None:
    page = Page(report)
    assert page.tags.count("video") == 4
    for words in (
        "<b>cv</b>",
        "hit: car",
        "stopped track, at fault",
        "70 % [40, 89]",
        "without stop and random",
        "street 2",
        "0.80",
    ):
        assert words in " ".join(page.text.split())


def test_the_same_twice_is_the_same_page(results: Results, report: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, results, {}, Settings("occsora evaluate", {}, films=0))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_film_shows_the_last_seconds(drive_straight: Make, tmp_path: Path) -> None:
    episode = drive_straight(speed=6.0, steps=16, agents=(("car", 60.0, 0.0, 0.0, 0.0, 4.8, 2.0),))
    video, still = film(episode, "hit: car")
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(video.partition(",")[2]))
    reader = imageio.get_reader(tmp_path / "film.mp4")
    assert reader.count_frames() == SECONDS / 0.25 + 1 + HOLD
    assert reader.get_data(0).shape == (SIZE, SIZE, 3)
    assert still.startswith("data:image/jpeg;base64,")
    first, last = draw(episode, 0).astype(int), draw(episode, 32).astype(int)
    blue = [np.argwhere((picture[..., 2] - picture[..., 1]) > 60) for picture in (first, last)]
    assert len(blue[0]) == 0  # 60 m ahead is beyond the grid
    assert SIZE * 0.25 < blue[1][:, 0].mean() < SIZE * 0.5  # 12 m ahead


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_it(report: Path, tmp_path: Path) -> None:
    """Every film plays, nothing sticks out of the page, and its figures have a size."""
    probe = """<script>
    const films = [...document.querySelectorAll("video")];
    const ready = film => new Promise(done => { film.onloadeddata = film.onerror = done; film.load(); });
    films.forEach(film => film.preload = "auto");
    Promise.all(films.map(ready)).then(() => {
      const told = { widths: films.map(film => film.videoWidth), errors: films.filter(film => film.error).length,
        lasting: Math.min(...films.map(film => film.duration)), page: document.documentElement.scrollWidth, window: innerWidth,
        figures: [...document.querySelectorAll("svg")].map(figure => figure.getBoundingClientRect().width) };
      document.body.setAttribute("data-told", JSON.stringify(told));
    });
    </script></body>"""
    page = tmp_path / "probed.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    own = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *QUIET, own, "--timeout=20000", "--virtual-time-budget=20000", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-told="([^"]*)"', shown)
    assert found, "the films did not load"
    told = json.loads(found[1].replace("&quot;", '"'))
    assert told["errors"] == 0
    assert told["widths"] == [SIZE] * 4
    assert told["lasting"] > 3
    assert told["page"] <= told["window"]
    assert len(told["figures"]) == 2
    assert min(told["figures"]) > 300
