"""The one module that uses pygame: text on pictures, the window of `human` rendering, and the keyboard."""

from __future__ import annotations

import os
from functools import lru_cache

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import pygame

Array = np.ndarray


@lru_cache(maxsize=16)
def _font(size: int) -> pygame.font.Font:
    pygame.font.init()
    return pygame.font.Font(None, size)


@lru_cache(maxsize=512)
def _glyphs(text: str, size: int) -> Array:
    """Coverage of a line of text, float32 (H, W, 1) in [0, 1]."""
    surface = _font(size).render(text, True, (255, 255, 255))
    return np.ascontiguousarray(pygame.surfarray.array_alpha(surface).T[..., None].astype(np.float32) / 255)


def draw_text(image: Array, text: str, at: tuple[int, int], size: int, colour: tuple[int, int, int]) -> int:
    """Write one line of text on image (H, W, 3), uint8, in place, with its upper left corner `at` (column, row) in pixels.

    Text that reaches past the picture is cut off. Returns the column at which it ends.
    """
    left, upper = at
    cover = _glyphs(text, size)[: max(image.shape[0] - upper, 0), : max(image.shape[1] - left, 0)]
    spot = image[upper : upper + cover.shape[0], left : left + cover.shape[1]]
    spot[...] = (spot + cover * (np.asarray(colour, dtype=np.float32) - spot) + 0.5).astype(np.uint8)
    return left + cover.shape[1]


class Window:
    """A window that shows pictures at a steady rate; opens with the first one.

    Attributes:
        closed: whether the user has closed the window.
        pressed: names of the keys that are held down, as pygame names them ("left", "space", "r", ...), after the last `show`.
        typed: names of the keys that went down since the `show` before.
    """

    def __init__(self, title: str, fps: float) -> None:
        self.closed = False
        self.pressed: set[str] = set()
        self.typed: set[str] = set()
        self._title, self._fps = title, fps
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, image: Array) -> None:
        """Show image (H, W, 3), uint8, wait for its turn and read the keyboard."""
        height, width = image.shape[:2]
        if self._screen is None:
            pygame.display.init()
            pygame.display.set_caption(self._title)
            self._screen = pygame.display.set_mode((width, height), pygame.SCALED if _can_scale() else 0)
        pygame.surfarray.blit_array(self._screen, image.transpose(1, 0, 2))
        pygame.display.flip()
        self._read_keys()
        self._clock.tick(self._fps)

    def _read_keys(self) -> None:
        self.typed = set()
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self.closed = True
            elif event.type == pygame.KEYDOWN:
                self.typed.add(pygame.key.name(event.key))
                self.pressed.add(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                self.pressed.discard(pygame.key.name(event.key))

    def close(self) -> None:
        """Close the window; may be called again."""
        if self._screen is not None:
            self._screen = None
            pygame.display.quit()


def _can_scale() -> bool:
    """Whether the video driver has a renderer that scales the picture to the screen."""
    return pygame.display.get_driver() not in ("dummy", "offscreen")
