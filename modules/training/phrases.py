"""The phrases of which captions are made: words, and patterns for where the noun phrases go. Data alone.

In patterns {0} and {1} are noun phrases; of a ground {1} is its colour with an article and {2} without. A phrase that stands
twice is drawn twice as often.
"""

from __future__ import annotations

from modules.training.motifs import RGB

SCENERY: dict[str, tuple[RGB, RGB, float, tuple[str, ...]]] = {
    "meadow": ((168, 214, 245), (112, 190, 92), 0.68, (
        "in a meadow", "on grass", "on the grass", "in the grass", "on a lawn", "in a field", "in the park", "in a park",
        "in the garden", "on a hill",
    )),
    "beach": ((152, 210, 245), (240, 216, 164), 0.66, (
        "on the beach", "on a beach", "at the beach", "in the sand", "on sand",
    )),
    "desert": ((250, 232, 196), (226, 178, 108), 0.66, ("in the desert", "in a desert")),
    "sea": ((192, 228, 248), (48, 128, 204), 0.6, (
        "on the sea", "in the sea", "on the water", "in the water", "in the ocean", "at sea", "on a lake",
    )),
    "underwater": ((22, 112, 172), (22, 112, 172), 2.0, ("underwater", "under water", "under the sea")),
    "snow": ((168, 204, 236), (246, 249, 253), 0.62, ("in the snow", "in winter", "on snow")),
    "night": ((20, 26, 68), (20, 26, 68), 2.0, ("at night", "in the night", "in the dark", "in the night sky")),
    "space": ((12, 10, 30), (12, 10, 30), 2.0, ("in space", "in outer space")),
    "sky": ((136, 196, 243), (136, 196, 243), 2.0, ("in the sky", "in the air", "up in the sky")),
    "sunset": ((250, 152, 92), (118, 62, 102), 0.66, ("at sunset", "at dusk", "in the sunset")),
    "forest": ((66, 126, 76), (40, 78, 46), 0.7, ("in a forest", "in the forest", "in the woods", "in the jungle")),
    "room": ((242, 228, 208), (178, 130, 90), 0.7, ("in a room", "indoors", "on the floor", "on a table")),
    "street": ((202, 216, 228), (112, 114, 120), 0.7, ("on the street", "on the road", "in the city", "in a street")),
}  # fmt: skip
"""Grounds that are no plain colour: colour above the horizon, below it, the horizon as a share of the height (2: none),
and what captions say."""
PREFIXES = (
    "a sticker of", "an emoji of", "a drawing of", "a picture of", "a photo of", "an image of", "an illustration of",
    "a painting of", "sticker of", "emoji of", "picture of", "drawing of", "image of", "photo of", "painting of",
    "illustration of", "icon of", "an icon of", "a cartoon of", "cartoon of", "a sketch of", "clip art of",
    "a cute drawing of", "a cute picture of", "a nice picture of", "a cute sticker of", "a beautiful painting of",
    "a simple drawing of", "draw", "draw me", "please draw", "show me", "paint", "paint me", "i want", "make", "generate",
    "there is", "here is", "digital art of", "a render of", "a 3d render of", "a close up of", "a logo of",
)  # fmt: skip
ADJECTIVES = (
    "cute", "cute", "cute", "beautiful", "simple", "nice", "lovely", "happy", "smiling", "funny", "friendly", "adorable",
    "pretty", "cool", "fancy", "new", "shiny", "sweet", "tasty", "fresh", "delicious", "wild", "young", "magical",
    "realistic", "detailed", "lonely", "fluffy", "fat", "fast", "strange", "famous", "perfect", "colorful", "wonderful",
    "amazing", "elegant", "brave", "angry", "sad",
)  # fmt: skip
AFTER = (
    "sitting", "standing", "smiling", "running", "jumping", "sleeping", "playing", "waiting", "looking at me",
    "looking at the viewer", "for kids", "for children", "in the style of a sticker", "in cartoon style", "from the side",
    "alone", "please",
)  # fmt: skip
KINDS = ("sticker", "sticker", "emoji", "icon", "cartoon", "drawing", "picture", "logo", "clipart", "illustration")
PRAISE = (
    "masterpiece", "best quality", "high quality", "highly detailed", "4k", "8k", "sharp", "sharp focus", "vector art",
    "flat colors", "digital art", "centered", "cartoon style", "simple background", "clean", "isolated", "sticker", "cute",
    "trending on artstation", "minimalist", "flat design", "kawaii", "emoji style", "hd", "detailed", "realistic", "3d",
    "no text", "professional", "studio light",
)  # fmt: skip
DETERMINERS = ("the", "the", "one", "one single", "a single", "1", "my", "this", "some")
SHADES = ("bright ", "plain ", "solid ", "pure ")
SMALL = ("small", "small", "little", "tiny", "mini")
BIG = ("big", "big", "large", "huge", "giant", "enormous")
GROUNDS = (
    "{0} on {1} background", "{0} on {1} background", "{0} on {1} background", "{0} on {1} background",
    "{0}, {2} background", "{0}, {2} background", "{0}, {2} background", "{0} on {2} background", "{0} on {2} background",
    "{0} {2} background", "{0} {2} background", "{0} on {2}", "{0} with {1} background", "{0} with {1} background",
    "{0} with {2} background", "{0} against {1} background", "{2} background, {0}", "{2} background, {0}",
    "{2} background with {0}", "{0} in front of {1} background", "{0} in front of {1} wall", "{0}, on {1} background",
    "{0} and {1} background", "{0} over {1} background", "{0} on a plain {2} background", "{1} background with {0}",
    "on {1} background {0}", "on {1} background, {0}", "{0} on {1} backdrop", "{0}, {2} backdrop", "{0} on {1} ground",
    "{0} on a solid {2} background", "{0}, background {2}", "{0}, the background is {2}", "{0} {2} bg", "{0}, {2} bg",
    "{0} on {1} surface", "{0} before {1} background", "{0} with {1} backdrop", "{0} where the background is {2}",
)  # fmt: skip
SCENIC = ("{0} {1}", "{0} {1}", "{0} {1}", "{0}, {1}", "{1}, {0}", "{0} standing {1}", "{0} {1} background")
PAIRS = (
    "{0} and {1}", "{0} and {1}", "{0} and {1}", "{0} and {1}", "{0} and {1}", "{0} and {1}", "{0} next to {1}",
    "{0} next to {1}", "{0} next to {1}", "{0} beside {1}", "{0} with {1}", "{0} with {1}", "{0} with {1}",
    "{0} and {1} side by side", "{0}, {1}", "{0}, {1}", "{0} {1}", "{0} on the left and {1} on the right",
    "{0} on the left, {1} on the right", "{0} to the left of {1}", "{0} left of {1}", "{0} near {1}", "{0} by {1}",
    "{0} & {1}", "{0} + {1}", "{0} plus {1}", "{0} together with {1}", "{0} and also {1}", "both {0} and {1}",
    "{0} looking at {1}", "{0} holding {1}", "{0} eating {1}", "{0} playing with {1}", "{0} that has {1}",
    "{0} along with {1}",
)  # fmt: skip
TURNED = (
    "{0} to the right of {1}", "{0} right of {1}", "{0} on the right and {1} on the left",
    "{0} on the right, {1} on the left", "{0} on the right of {1}", "{0} on the right side and {1} on the left side",
)  # fmt: skip
STACKS = (
    "{0} above {1}", "{0} above {1}", "{0} over {1}", "{0} on top of {1}", "{0} on top of {1}", "{0} sitting on {1}",
    "{0} standing on {1}", "{0} riding {1}", "{0} on {1}", "{0} at the top and {1} at the bottom", "{0} flying over {1}",
)  # fmt: skip
UNDER = ("{0} below {1}", "{0} under {1}", "{0} beneath {1}", "{0} underneath {1}", "{0} at the bottom and {1} at the top")
FRONT = ("{0} in front of {1}", "{0} in front of {1}", "{0} before {1}", "{0} standing in front of {1}")
BEHIND = ("{0} behind {1}", "{0} behind {1}", "{0} in the background of {1}")
WEARING = (
    "{0} wearing {1}", "{0} wearing {1}", "{0} with {1} on its head", "{0} with {1}", "{0} in {1}", "{0} that wears {1}",
)  # fmt: skip
PLACES: dict[str, tuple[float, float, tuple[str, ...]]] = {
    "left": (-0.25, 0.0, (
        "{0} on the left", "{0} on the left side", "{0} at the left", "{0} to the left", "on the left {0}", "{0} left",
    )),
    "right": (0.25, 0.0, (
        "{0} on the right", "{0} on the right side", "{0} at the right", "{0} to the right", "on the right {0}",
        "{0} right",
    )),
    "top": (0.0, -0.25, (
        "{0} at the top", "{0} on top", "{0} in the upper half", "{0} at the upper edge", "at the top {0}",
        "{0} on the top",
    )),
    "bottom": (0.0, 0.25, (
        "{0} at the bottom", "{0} on the bottom", "{0} in the lower half", "{0} at the lower edge", "at the bottom {0}",
    )),
    "top left": (-0.25, -0.25, (
        "{0} in the top left corner", "{0} at the top left", "{0} in the upper left", "{0} top left",
    )),
    "top right": (0.25, -0.25, (
        "{0} in the top right corner", "{0} at the top right", "{0} in the upper right", "{0} top right",
    )),
    "bottom left": (-0.25, 0.25, (
        "{0} in the bottom left corner", "{0} at the bottom left", "{0} in the lower left", "{0} bottom left",
    )),
    "bottom right": (0.25, 0.25, (
        "{0} in the bottom right corner", "{0} at the bottom right", "{0} in the lower right", "{0} bottom right",
    )),
    "middle": (0.0, 0.0, ("{0} in the middle", "{0} in the center", "{0} in the centre", "centered {0}")),
}  # fmt: skip
NUMBERS: dict[int, tuple[str, ...]] = {
    2: ("two", "two", "two", "two", "2", "a pair of", "a couple of"),
    3: ("three", "three", "three", "three", "3", "a few", "some", "several"),
    4: ("four", "four", "four", "4"),
    5: ("five", "five", "five", "5"),
    6: ("six", "six", "6", "half a dozen"),
    9: ("many", "many", "lots of", "a lot of", "nine", "9", "a bunch of", "a group of"),
}  # fmt: skip
