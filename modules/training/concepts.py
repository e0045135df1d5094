"""What the starter model can draw: its motifs, each a glyph of Noto Color Emoji, and the colours of its grounds.

Only names live here; `rendering` turns them into pixels and `captions` into sentences. Motifs that differ from
another only by colour or by a few pixels at 128x128 (blue heart, crying face) are left out: no eye and no
measurement could tell a right picture of them from a wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Concept:
    """One motif: its name, the character that shows it, and other names by which a caption may call it."""

    name: str
    glyph: str
    aliases: tuple[str, ...] = ()


# name | glyph | aliases, one motif a line
_TABLE = """
red apple|🍎|apple
banana|🍌
lemon|🍋
watermelon|🍉|slice of watermelon
grapes|🍇|bunch of grapes
strawberry|🍓
cherries|🍒|cherry
pineapple|🍍
pear|🍐
avocado|🥑
carrot|🥕
corn|🌽|ear of corn
mushroom|🍄|toadstool
cheese|🧀|piece of cheese
pizza|🍕|slice of pizza
hamburger|🍔|burger
taco|🌮
ice cream|🍦|ice cream cone
doughnut|🍩|donut
cookie|🍪
birthday cake|🎂|cake
cupcake|🧁|muffin
lollipop|🍭
cup of coffee|☕|coffee
mug of beer|🍺|beer
cat face|🐱|cat,kitten
dog face|🐶|dog,puppy
mouse face|🐭|mouse
rabbit face|🐰|rabbit,bunny
fox|🦊|fox face
bear|🐻|bear face
panda|🐼|panda face
tiger|🐯|tiger face
lion|🦁|lion face
cow|🐮|cow face
pig|🐷|pig face
frog|🐸|frog face
monkey|🐵|monkey face
penguin|🐧
owl|🦉
duck|🦆
unicorn|🦄
bee|🐝|honeybee
butterfly|🦋
snail|🐌
ladybug|🐞|beetle
turtle|🐢
octopus|🐙
fish|🐠|tropical fish
whale|🐳
crab|🦀
dinosaur|🦕
dragon|🐲|dragon face
rose|🌹|red rose
sunflower|🌻
tulip|🌷
cherry blossom|🌸|pink flower,flower
tree|🌳
palm tree|🌴
cactus|🌵
four leaf clover|🍀|clover
maple leaf|🍁
sun|🌞|sun with a face
crescent moon|🌙|moon
star|⭐|yellow star
rainbow|🌈
fire|🔥|flame
snowman|⛄
water drop|💧|drop of water
lightning bolt|⚡|lightning
volcano|🌋
smiley face|😀|smiley,happy face
face with heart eyes|😍
face with sunglasses|😎
robot|🤖|robot face
alien|👽|alien face
ghost|👻
skull|💀
clown|🤡|clown face
pumpkin|🎃|jack-o-lantern
red heart|❤|heart
rocket|🚀
red car|🚗|car
bus|🚌
tractor|🚜
train|🚂|locomotive
airplane|✈|plane
sailboat|⛵|boat
flying saucer|🛸|ufo
house|🏠
castle|🏰
key|🔑
bell|🔔
balloon|🎈|red balloon
gift|🎁|present
christmas tree|🎄
soccer ball|⚽|football
basketball|🏀
guitar|🎸
book|📕|red book
pencil|✏
camera|📷
laptop|💻|computer
light bulb|💡
alarm clock|⏰|clock
umbrella|☂
crown|👑
top hat|🎩
t-shirt|👕|shirt
diamond|💎|gem
bomb|💣
trophy|🏆
"""


def _read(table: str) -> dict[str, Concept]:
    rows = (line.split("|") for line in table.split("\n") if line)
    return {name: Concept(name, glyph, tuple(",".join(rest).split(",")) if rest else ()) for name, glyph, *rest in rows}


CONCEPTS: dict[str, Concept] = _read(_TABLE)

COLOURS: dict[str, RGB] = {
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 214, 70),
    "green": (70, 170, 80),
    "blue": (50, 110, 220),
    "purple": (130, 70, 180),
    "pink": (245, 150, 190),
    "white": (250, 250, 250),
    "black": (25, 25, 28),
    "gray": (140, 140, 145),
    "brown": (125, 80, 50),
}
"""The grounds that a caption may name. One that names none is white (a random pastel taught nothing, see the card)."""
