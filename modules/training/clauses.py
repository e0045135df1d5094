"""The patterns of `retelling`: clauses about a thing's ground, colour, place, size and number, and about two.  Data alone.

{x} and {y} are things with their articles, {name} is one without, {ax} one with "a", {xs} several; {c} is a colour, {ac} one
with "a", {a_c_x} a thing of that colour; {n} a number, {z} a word for the size, {s} a side, {o} the opposite one, {all} a word
like "entirely"; {w} words that name nothing, {ing}, {ed} and {es} one in that form. [a|b] is one of these, and what stands
twice is drawn twice as often.  No six words in a row are those of a handwritten prompt (`paraphrases.txt`): these measure
wording that was not taught.
"""

from __future__ import annotations

ARE = "[is|is|was|should be|must be|will be|ought to be|could be|stays|can be|being]"
FIELD = "[background|background|backdrop|wall|surface|canvas|sheet|paper|cloth|board|screen|curtain|scene|area|space|ground]"
ROUND = "[behind|around|behind|around|beneath|surrounding|beyond|all round|round about|underneath|enclosing|in back of]"
ALL = (
    "[|||only |just |all |purely |entirely |completely |plain |pure |some |something |total |mostly |a lot of |nothing except ]"
)
ON = (
    "[on|onto|upon|against|before|in front of|over|across|set on|put on|laid on|placed on|resting upon|glued to|stuck on|"
    "printed on|seen against|set off against|in the middle of|surrounded by|framed by|framed with|backed by|enclosed by|within]"
)
IT = "[it|it|him|her|them|that|this|one]"
GROUND = (
    f"{{x}} [where|so that|since|as|because|and] [all|everything|whatever] [that|which|] {{w}} "
    f"[it|the {{name}}|there] {ARE} {{c}}",
    f"{{x}} [where|so that|and|but] [all|everything|whatever] [that|which|] {ARE} {ROUND} {IT} {ARE} {ALL}{{c}}",
    f"{{x}} {{w}} {{ac}} {FIELD}",
    f"{{x}} {{w}} {ON} [a|an|the|some|this|{{w}}] [very|completely|perfectly|quite|nicely|] {{c}} {FIELD}, {{w}}",
    f"{ALL}{{c}} {FIELD}, {{x}} {ON} {IT}, {{w}}",
    f"{{x}} {{w}}, [nothing|not a thing|no other colour] [but|except|save] {{c}} {ROUND} {IT}",
    f"{{x}} {ON} {ALL}{{c}}",
    f"{{x}} {ON} {ALL}{{c}}",
    f"{{x}} {ON} {{ac}} {FIELD}",
    f"{{x}} {{w}} {ON} {{ac}} {FIELD}",
    f"{{x}} with {ALL}{{c}} {ROUND} {IT}",
    f"{{x}} [and|,|, and|with|having|has|gets] {ALL}{{c}} {ROUND} {IT}",
    f"{{x}}, {{c}} {ROUND} {IT}",
    f"{ALL}{{c}} {ROUND} {{x}}",
    f"{{c}} [{ROUND}|as {FIELD} of|for {FIELD} of] {{x}}",
    f"{ROUND} {{x}} [{ARE}|there is|we see|comes|you see|put|have|shines] {ALL}{{c}}",
    f"what is {ROUND} {{x}} {ARE} {{c}}",
    f"[everything|all|the rest|whatever is|anything|the whole area|the space|the place] {ROUND} {{x}} {ARE} {ALL}{{c}}",
    f"{{x}}, [everything|all] [else|the rest|other|beside {IT}] {ARE} {ALL}{{c}}",
    f"{{x}}, [while|where|and|but|with|since] the [rest|remainder|surroundings|{FIELD}|{FIELD}|{FIELD}] {ARE} {ALL}{{c}}",
    f"the {FIELD} [of|for|behind|around|with|under] {{x}} {ARE} {ALL}{{c}}",
    f"{{x}}, {FIELD} [in|of|:|as|{ARE}|,] {ALL}{{c}}",
    f"{{x}} whose {FIELD} {ARE} {{c}}",
    f"[make|paint|colour|color|fill|keep|turn|have|leave|let|do] the {FIELD} [of|behind|around|for] {{x}} {{c}}",
    f"[make|paint|colour|fill|keep|turn] the {FIELD} {{c}}[,|, and|, then|;|.] [add|put|place|set|draw|show|paint|with] {{x}}",
    f"[take|choose|use|pick|start with|begin with|first] {{ac}} {FIELD}[,|, and|, then|;|.] "
    "[add|put|place|set|draw|show] {x}",
    f"[put|place|set|draw|lay|show|paint|stick|print] {{x}} {ON} {ALL}{{c}}",
    f"[put|place|set|draw|lay|show|paint|stick|print] {{x}} {ON} {{ac}} {FIELD}",
    f"[put|place|set|use|draw|paint|have] {ALL}{{c}} {ROUND} {{x}}",
    f"{{c}} [as the|for the|for a|as] {FIELD}[,| and| with|:|;] {{x}} [|on {IT}|there|in front|{{w}}]",
    "{c} [everywhere|wherever one looks|all over|all about|on all sides], [and|with|only|except|apart from] {x} [{w}|]",
    f"{{x}}. {FIELD}[:| {ARE}|,|?] {{c}}",
    f"{{x}} [wants|needs|deserves|gets|has|likes] {{ac}} {FIELD}",
    f"{{c}} {FIELD}, [then|and|plus|with] {{x}} {{w}}",
)
PARTS = "[skin|fur|feathers|paint|body|cover|scales|surface|colour|shade|tone|outside|hide]"
COLOUR = (
    "{x} [that|which] [is|was|should be] {c} [rather than|instead of|and not|more than|like|as] {w}",
    "{c} [rather than|instead of|and not|like|as] {w}, {x}",
    "[give|lend|show|get] [me|us|her|them] {x} [that|which] [is|looks|has become] {all}{c} {w}",
    "[suppose|imagine|if|as if|only if] {x} [was|is|were|had been|became|could be] {ac} one {w}",
    "{x}, {ac} one [{w}|this time|at last|as well|for a change]",
    "{x}, [and|but] {ac} one",
    "{x} of [the|a|some|that] {c} [kind|sort|type|family|{w}|{w}]",
    "[the|a|my|your] {w} {name} has [just|now|at last|again|recently|] [been|become|turned] [painted|dyed|sprayed|{w}|] {c}",
    "[the|a|my|your] {w} {name} [just|now|at last|] [got|was|is] [painted|dyed|sprayed|{w}|] {all}{c}",
    "{x} {w} {ed} {c} {w}",
    "[{w}|paint|dye] {x} {c} [for|before|at|by|until|because of|in time for] {w}",
    "{x} [that's|it's|is] {c} [from end to end|from neck to tail|on every side|wherever one looks|to the last bit]",
    f"{{x}} [that|which|who] {ARE} {{all}}{{c}}",
    "{x} [that|which|who] [turned|became|has become|has turned|looks|appears|went|has gone|shines|grew] {all}{c}",
    f"the {{name}} {ARE} {{all}}{{c}}",
    f"the {{name}} {ARE} {{c}}, {{w}}",
    f"{{x}}[,|] {ARE} {{c}}",
    "{x}, {all}{c}",
    "{x}, {c} [all over|from head to toe|through and through|throughout|everywhere|inside and out|on all sides|as can be]",
    "{x}, {c} {w}",
    "{x}, [but|and] [{c}|in {c}|painted {c}|make it {c}|let it be {c}|it is {c}|coloured {c}|this time {c}]",
    "{x} [painted|dyed|coloured|colored|tinted|sprayed|finished|varnished|covered|done|drawn] [|in |all |entirely ]{c}",
    "{x} {w} [painted|dyed|coloured|colored|sprayed|covered] [|in |all ]{c}",
    "{x} [has been|was|is being|gets|got|will be|would be] [painted|dyed|coloured|sprayed|turned|made] [|in |all ]{c}",
    "[someone|he|she|they|we|i|{w}] [painted|dyed|coloured|sprayed|turned|made|has painted|has made] {x} {c}",
    "[make|paint|dye|colour|color|spray|turn|tint|have|let] {x} [{c}|be {c}|{c} {w}]",
    "[make|paint|dye|colour|draw|show] {x} [in|with|using] [|only |all ]{c}",
    "{x} [in|of] {ac} [colour|shade|tone|hue|tint|kind|sort|type|version]",
    "{x} in {c}",
    "{x} made [of|from|out of] [something |stuff that is |]{c} [paper|plastic|metal|glass|wood|stuff|material|{w}]",
    f"{{x}} [with|that has|which has|having|wearing] [a |its |the |]{{c}} {PARTS}",
    f"{{x}}, [its|the|her|his] {PARTS} {ARE} {{c}}",
    f"{{x}} whose {PARTS} [turned|looks|became|has been|seems|appears] {{c}}",
    "{c} [is|was|should be|must be] the [colour|color] of {x}",
    "{c}, [that is|this is|so is|for] {x}",
    "{x} [as|so|too|very|rather|quite|really|bright|deep] {c} [as {w}|{w}|]",
    "{x} that's {all}{c}",
    "{x} that's {c} [throughout|on all sides|everywhere|{w}]",
    "{x}, it's {all}{c} {w}",
    "{w} [painted|dyed|coloured|sprayed|covered] {x} {c} {w}",
    "{x} {w} [is|was|has been|gets] [painted|dyed|coloured|sprayed|made] {c} {w}",
    "{x}: {c}",
    "{x} ({c})",
    "[one|a] {c} one, {x}",
    "[bring|give|get|buy|find|send] [me|us|him|her|them] {a_c_x}",
    "{a_c_x} [with|for|of|in|at|from] {w}",
    "{a_c_x}, {w}",
    "{a_c_x} {w}",
)
SIDES: dict[str, tuple[str, ...]] = {
    "left": ("left", "left", "far left"),
    "right": ("right", "right", "far right"),
    "top": ("top", "top", "upper", "uppermost"),
    "bottom": ("bottom", "bottom", "lower", "lowest"),
}
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
ROOM = "[side|edge|part|half|border|margin|end|third|corner|rim|]"
PAGE = (
    "[|||of the picture|of the page|of the image|of the frame|of the sheet|of the drawing|of everything|of this|of the scene]"
)
PLACE = (
    f"{{x}} [on|at|in|near|by|to|towards] the {{s}} {ROOM} {PAGE}",
    f"{{x}} {{w}} [on|at|in|near|by|to] the {{s}} {ROOM} {PAGE}",
    f"{{x}} [put|placed|set|shifted|moved|drawn|standing|sitting|lying|hung|kept|shown|stuck|pressed|tucked|waiting|{{w}}] "
    f"[on|at|in|to|near|by|over to|towards|down at|up at|over on|onto] the {{s}} {ROOM} {PAGE}",
    f"[put|place|set|shift|move|draw|keep|show|hang|slide|drag] {{x}} "
    f"[on|at|in|to|near|over to|towards|over on|up at|down at] the {{s}} {ROOM} {PAGE}",
    f"[on|at|in|near|along] the {{s}} {ROOM} {PAGE}[,| there is| is| stands| we see| comes|:| put| draw] {{x}}",
    f"the {{s}} {ROOM} {PAGE} [has|shows|holds|contains|is for|is where we see|belongs to] {{x}}",
    f"{{x}} [belongs|goes|stays|stands|sits|lives|is|is found|was put|waits|hides|{{w}}] [on|at|in|to] the {{s}} {ROOM} {PAGE}",
    f"[leave|keep|have] the {{o}} {ROOM} [free|empty|blank|clear|open][,| and| since| because|;] "
    "{x} [on|at|to|goes to|is at] the {s}",
    f"[space|room|emptiness|nothing] [on|at|to] the {{o}}[,| and| but] {{x}} [on|at|to|in] the {{s}} {ROOM}",
)
VERY = "[very|so|such|extremely|really|unusually|terribly|too|quite|rather|absolutely|truly]"
SIZE = {
    "small": (
        f"{{x}}, {VERY} {{z}}", f"{{x}} [that|which|who] {ARE} {VERY} {{z}}", f"[a|the|one|this] {VERY} {{z}} {{name}} {{w}}",
        f"{{x}}, [drawn|shown|painted|made|kept|seen] [{VERY} |]{{z}}", "{z}, {x} {w}", f"{VERY} {{z}} {{ax}}",
        "{x}, [alone|lost|hidden] [in|within|inside] [so much|a lot of|all this|too much] [space|emptiness|room|nothing]",
        "{x} seen from [far away|a great distance|afar|a long way off]",
        "a {z} {name} with [lots of|much] [space|room] around it",
        "make {x} [{z}|as {z} as possible]", "{x}, [no bigger|not larger] than [that|a point|{w}]",
    ),
    "big": (
        f"{{x}}, {VERY} {{z}}", f"{{x}} [that|which|who] {ARE} {VERY} {{z}}", f"[a|the|one|this] {VERY} {{z}} {{name}} {{w}}",
        f"{{x}}, [drawn|shown|painted|made|kept|seen] [{VERY} |]{{z}}", "{z}, {x} {w}", f"{VERY} {{z}} {{ax}}",
        "{x} [that fills|filling|that takes up|taking up|covering] the [whole|entire|complete] "
        "[picture|page|frame|image|sheet]",
        "{x} as [{z}|high|wide|tall] as [the page|possible|can be|{w}]", "make {x} [{z}|as {z} as possible]",
        "{x}, [almost|nearly] too {z} for the [picture|page|frame|sheet]",
    ),
}  # fmt: skip
COUNT = (
    "{n} {xs}, {w}, [all|each|every one|most|both] of [these|those|us|you]",
    "{n} {xs} {w}, [all|each|none|some] of [them|these] {w}",
    "{n} {xs} [left|right|over|behind|more|at once] {w}",
    "{w} {n} [very|so|rather|] {w} {xs}",
    "{n} {xs} {w}",
    "{n} {xs}, {w}",
    "{n} {xs} [for|of|from|in|at|with|after|without|before] {w}",
    "[there are|there were|here are|we have|i have|we saw|you see|she has|draw|show|give me|bring|i want|i see|"
    "get] {n} {xs} {w}",
    "[exactly|only|precisely|just|no more than|not more than|no fewer than|all|the|these|those|my|our|another] {n} {xs} {w}",
    "{xs}, {n} of [them|these|those]",
    "{n} {xs}, [and|but] [no more|nothing more|not one more|that is all|{w}]",
    "{xs} [times|x] {n}",
    "the {n} {xs} [of|from|in|who|that|which|with] {w}",
    "[it needs|it wants|long ago|today|every day|{w}] {n} {xs} {w}",
    "{n} {xs} [a|every|each|per] {w}",
)
VERB = "[{ing}|{ing}|{ed} [by|with|to|at|for]|is {ing}|was {ed} by|{es}|{es}|{es} with|that {es}|who {es}|which {ed}]"
PAIR = (
    "{x} {w} {y}, {w}",
    "{x} {w} {y}",
    "{w} [is|was|:|means|has|wants] {x}, [then|and|plus|with] {y}",
    "{x}, [next|and|also] [on|to|at] [the|its] right [of that|side|] {y} [too|as well|also|in addition|{w}]",
    "{x} {w}, {y} {w}",
    "{x} [close to|close by|up against|side by side with|not far from|right beside|right by] {y} [like|as|for|at] {w}",
    f"{{x}} {VERB} {{y}}",
    f"{{x}} {VERB} {{y}}",
    f"{{x}} {VERB} {{y}} {{w}}",
    f"{{x}} {{w}} {VERB} {{y}}",
    "{x} {w} and {y}",
    "{x} and {y} {w}",
    "{x} and {y}, [who|that|which] [are|were|have|will|{ed}] {w}",
    "{x} [with|and|plus|near|by|beside|next to|together with|as well as|but also|or rather] {y} {w}",
    "{x} {w} [with|near|by|beside|next to] {y}",
    "{x}[,| and] then {y}",
    "[at first|to begin with|initially] {x}, [then|next|later|followed by|after that|and finally] {y}",
    "{x} [here|on this side|at one end|over here|to one side][,| and] {y} [there|on that side|at the other end|over there]",
    "{x} on the left[,| and|;] {y} [at the right|to the right|on the right] {w}",
    "[right of|to the right of|on the right of] {x} [is|comes|stands|we see|there is|follows|put|draw] {y}",
    "[left of|to the left of|on the left of] {y} [is|comes|stands|we see|there is|put|draw] {x}",
    "{x}[,| and] [right of it|to its right|on its right|at its right] {y}",
    "{x}, then right of it {y}",
    "{x} right [beside|next to|by|near] {y} {w}",
    "{x} in the company of {y}",
    "[both|a couple:|two things:] {x} and {y} {w}",
    "{x}. {y}.",
    "not only {x} but {y} too",
    "{x} [met|meets|sees|saw|loves|likes|finds|found|has|knows|asks|misses|helps] {y} {w}",
)
THING = (
    "{x}, the [only|best|next|last] {w} [that|which] [nobody|people|everybody] {ed}",
    "{x} {ing} [off|down|away|up|out|along|by|over|under|past] {w}",
    "{x} [left|lost|kept|found|seen|used] {w} [by|in|at|for|open|behind|over] {w}",
    "{x} {ing} [its|her|his|their|my|a|the] {w} {w}",
    "{w} {w} {name} with {w}",
    "{w} {name}, {w}",
    "{x}, the {w} {w} {es} for",
    "{x} for the {w} of the {w}",
    "{x}, {w}, {w}, {w}",
    "[{w}, {w}!|{w}?|{w}:] {x}",
    "{x} as {w} {w} to {w} [them|it|him]",
    "[the|a|one] {w} {name} {w}",
    "{x} {ing} against {w}",
    "{x} {ing} its {w}",
    "{x} on a {w}, {ed}",
    "{w} a {w} {name} on a {w} {w}",
    "{x} {w}, {w} the {name}", "{w}, {x}, {w} {name}", "{x} {w}, {w}", "{w}, {x} {w}", "{x} {ing} {w} {w}", "{x} about to {w}",
    "{x} {w}", "{x}, {w}", "{x} [that|which|who] {es} {w}", "{x} {ing} {w}", "{x} {ed} {w}",
    "{x} [for|of|from|in|at|with|by] {w}",
    "[this|that|my|your|his|her|our|the|one] {name} {w}", "{w}'s {name}", "{w}, {x}", "{w} {x}", "{w} {x} {w}", "{x}, the {w}",
    "{x} as {w}", "{x} [that|which] [i|we|you|they|he|she|nobody|everyone|everybody] {ed} {w}",
    "[{w}|can you|could we|i|let me] {w} {x}",
)  # fmt: skip
