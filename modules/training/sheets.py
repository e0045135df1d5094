"""Contact sheets: pictures side by side, with what was asked below each."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

CAPTION = 14  # px, the height of a line of text

PROMPTS = (
    "a red apple", "a fox", "cute penguin", "A ROCKET", "two foxes", "three stars", "a blue car", "a pink elephant",
    "a cat and a dog", "an owl on a purple background", "a picture of a dragon", "sticker of a robot, green background",
    "a green apple next to a red apple", "a small duck", "a huge whale", "a bell on the left", "a crown at the top",
    "four cookies", "many hearts", "a dog wearing a top hat", "a cat in front of a house", "a bird on a tree",
    "a panda, a lion and a frog", "two cats and a fish", "please draw me a yellow submarine and a shark",
    "drawing of a purple octopus", "a black cat on an orange background", "white rabbit, blue background",
    "a photo of a burger with fries", "coffee and a croissant", "pizza slices", "an astronaut in space",
    "a sailboat on the sea", "a cow in a meadow", "a snowman in the snow", "a camel in the desert", "a crab on the beach",
    "santa claus and a christmas tree", "a wizard with a crystal ball", "a very tired mouse who likes cheese",
    "banana yellow background", "kitten", "puppies", "a golden key", "an umbrella in the top right corner",
    "a big dog and a small mouse", "a rose for my wife, pink background", "a guitar beside a drum", "five balloons",
    "a castle behind a dragon", "bicycle", "a green dinosaur", "a red bus and a yellow taxi", "an alien riding a horse",
    "football", "a lemon on a blue plate", "a blue heart on a white background", "happy birthday cake, masterpiece, 4k",
    "ghost at night", "a tree under a cloud", "a purple car in front of a blue background", "three green frogs",
    "a pair of brown boots", "girl with a red balloon",
)  # fmt: skip
"""64 prompts in free wording, to be looked at."""


def contact_sheet(pictures: Tensor, captions: Sequence[str] = (), columns: int = 8, edge: int = 128) -> Image.Image:
    """A sheet of pictures (B, 3, H, W) in bytes, each `edge` pixels wide."""
    strip = CAPTION if captions else 0
    sheet = Image.new("RGB", (columns * edge, -(-len(pictures) // columns) * (edge + strip)), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures.permute(0, 2, 3, 1).cpu().numpy()):
        x, y = index % columns * edge, index // columns * (edge + strip)
        sheet.paste(Image.fromarray(picture).resize((edge, edge), Image.Resampling.BOX), (x, y))
        if captions:
            text = captions[index]
            while pen.textlength(text) > edge - 4:
                text = text[:-1]
            pen.text((x + 2, y + edge + 1), text, fill=(0, 0, 0))
    return sheet
