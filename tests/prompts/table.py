"""The prompt language by example: what each text means, written by hand from A1111's documentation and behaviour.

`EDITING` is worked out for 10 evaluations, `HIRES` for a second pass of 10 after a first of 10, `OLD` with old timelines.
`WEIGHTS` are (text, weight) pieces.  Where A1111 is odd, the case says so.
"""

from __future__ import annotations

# A prompt, and the (end, text) pairs that it is worked out to
EDITING: list[tuple[str, list[tuple[int, str]]]] = [
    # Words
    ("", [(10, "")]),
    (" ", [(10, " ")]),
    ("a cat", [(10, "a cat")]),
    ("a\ncat", [(10, "a\ncat")]),
    ("ein Kätzchen, 猫", [(10, "ein Kätzchen, 猫")]),
    ("a, b: c", [(10, "a, b: c")]),
    # [b:when] brings something in
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [b:3 ]", [(3, "a "), (10, "a b")]),
    ("a [b:\n3]", [(3, "a "), (10, "a b")]),
    ("[:b:3]", [(3, ""), (10, "b")]),
    ("[b:+3]", [(3, ""), (10, "b")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    # [a::when] takes something out
    ("[a::3] b", [(3, "a b"), (10, " b")]),
    ("a [b::.2]", [(2, "a b"), (10, "a ")]),
    # [a:b:when] swaps
    ("[a:b:3]", [(3, "a"), (10, "b")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("x[a:b:3]y", [(3, "xay"), (10, "xby")]),
    ("[a cat:a dog:9]", [(9, "a cat"), (10, "a dog")]),
    ("[a:b:3][c:d:4]", [(3, "ac"), (4, "bc"), (10, "bd")]),
    ("[a:b:3][c:d:3]", [(3, "ac"), (10, "bd")]),
    ("[3:5:5]", [(5, "3"), (10, "5")]),
    ("[3:5]", [(5, ""), (10, "3")]),
    ("[::5]", [(5, ""), (10, "")]),
    ("[:5]", [(5, ""), (10, "")]),
    ("[ : : 3]", [(3, " "), (10, " ")]),
    # Numbers: a point makes a fraction, without one they count evaluations
    ("[a:b:.5]", [(5, "a"), (10, "b")]),
    ("[a:b:0.5]", [(5, "a"), (10, "b")]),
    ("[a:b:0.25]", [(2, "a"), (10, "b")]),
    ("[a:b:0.99]", [(9, "a"), (10, "b")]),
    ("[a:b:1.0]", [(10, "a")]),
    ("[a:b:1.]", [(10, "a")]),
    ("[a:b:1]", [(1, "a"), (10, "b")]),
    ("[a:b:1.5]", [(10, "a")]),
    ("[a:b:10]", [(10, "a")]),
    ("[a:b:11]", [(10, "a")]),
    ("[a:b:99999999999999999999]", [(10, "a")]),
    ("[a:b:1e999]", [(10, "a")]),
    ("[a:b:1e0]", [(1, "a"), (10, "b")]),
    ("[a:b:5e-1]", [(10, "b")]),  # no point: half an evaluation, so never a
    ("[a:b:0.05]", [(10, "b")]),
    ("[a:b:0]", [(10, "b")]),
    ("[a:b:-1]", [(10, "b")]),
    ("[a:b:-0.5]", [(10, "b")]),
    ("[a:b:-99999999999]", [(10, "b")]),
    ("[a:b:0.0]", [(10, "b")]),
    # Not numbers: text
    ("[a:b:c]", [(10, "[a:b:c]")]),
    ("[a:b]", [(10, "[a:b]")]),
    ("[a:b:]", [(10, "[a:b:]")]),
    ("[a:b:.]", [(10, "[a:b:.]")]),
    ("[a:b:1.2.3]", [(10, "[a:b:1.2.3]")]),
    ("[a:b:1 2]", [(10, "[a:b:1 2]")]),
    ("[a:b:0x5]", [(10, "[a:b:0x5]")]),
    ("[a:b:٣]", [(10, "[a:b:٣]")]),
    ("[a:b:(3)]", [(10, "[a:b:(3)]")]),
    ("[a:b:\\3]", [(10, "[a:b:\\3]")]),
    ("[a:b:1e]", [(10, "[a:b:1e]")]),
    ("[a:b:inf]", [(10, "[a:b:inf]")]),
    # Not the right number of parts: text
    ("[a:b:c:5]", [(10, "[a:b:c:5]")]),
    ("[a:b:5:]", [(10, "[a:b:5:]")]),
    ("[5]", [(10, "[5]")]),
    ("[]", [(10, "[]")]),
    ("[:]", [(10, "[:]")]),
    ("a:b:3]", [(10, "a:b:3]")]),
    ("[a:b:3", [(10, "[a:b:3")]),
    ("(a:b:3)", [(10, "(a:b:3)")]),
    # Nested
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("[a:[b::3]:1]", [(1, "a"), (3, "b"), (10, "")]),
    ("[[a:b:2]:c:4]", [(2, "a"), (4, "b"), (10, "c")]),
    ("[[a:b:8]:c:4]", [(4, "a"), (8, "c"), (10, "c")]),  # ends of what is never reached count as well
    ("[a:[b:c:1]:2]", [(1, "a"), (2, "a"), (10, "c")]),
    ("[[[a:b:1]:c:2]:d:3]", [(1, "a"), (2, "b"), (3, "c"), (10, "d")]),
    ("[a:(b:1.1):2]", [(2, "a"), (10, "(b:1.1)")]),
    ("[(a):[b]:2]", [(2, "(a)"), (10, "[b]")]),
    ("([a:b:2]:1.3)", [(2, "(a:1.3)"), (10, "(b:1.3)")]),
    ("[(a:[b:c:1]):2]", [(1, ""), (2, ""), (10, "(a:c)")]),
    # Unbalanced: the stray bracket is text, and so is what would have gone around it
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("[a [b:3] c", [(3, "[a  c"), (10, "[a b c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a:[b:3]", [(3, "[a:"), (10, "[a:b")]),
    ("[a (b] c:3]", [(10, "[a (b] c:3]")]),
    ("(a [b:2)", [(10, "(a [b:2)")]),
    ("[[a:b:2]:c]", [(2, "[a:c]"), (10, "[b:c]")]),
    ("[ (x:[a:b:2]:z) : 3]", [(2, "[ (x:a:z) : 3]"), (10, "[ (x:b:z) : 3]")]),
    ("(a:b:[c:d:2])", [(2, "(a:b:c)"), (10, "(a:b:d)")]),
    ("((((([a:b:2]", [(2, "(((((a"), (10, "(((((b")]),
    ("[a:b:c:5] [x:y:3]", [(3, "[a:b:c:5] x"), (10, "[a:b:c:5] y")]),
    ("] [a:b:2]", [(2, "] a"), (10, "] b")]),
    (") [a:b:2]", [(2, ") a"), (10, ") b")]),
    ("a [{b|d{:.5] c", [(10, "a [{b|d{:.5] c")]),  # braces mean nothing here, and a bar beside a colon fails
    # Alternation
    ("[a|b]", [(i, "ab"[(i - 1) % 2]) for i in range(1, 11)]),
    ("[a|b|c] x", [(i, "abc"[(i - 1) % 3] + " x") for i in range(1, 11)]),
    ("[fe|]male", [(i, ("fe", "")[(i - 1) % 2] + "male") for i in range(1, 11)]),
    ("[fe|||]male", [(i, ("fe", "", "", "")[(i - 1) % 4] + "male") for i in range(1, 11)]),
    ("[|a]", [(i, ("", "a")[(i - 1) % 2]) for i in range(1, 11)]),
    ("[a|(b:1.1)]", [(i, ("a", "(b:1.1)")[(i - 1) % 2]) for i in range(1, 11)]),
    ("[a|[b|c]]", [(i, "ac"[(i - 1) % 2]) for i in range(1, 11)]),  # both count the same steps: b never comes
    ("[a|[b:c:5]]", [(i, "a" if i % 2 else "b" if i <= 5 else "c") for i in range(1, 11)]),
    ("[[a|b]:c:2]", [(1, "a"), (2, "b"), *((i, "c") for i in range(3, 11))]),
    ("[[a|b]:c", [(i, "[" + "ab"[(i - 1) % 2] + ":c") for i in range(1, 11)]),
    # A bar anywhere else makes the whole prompt text
    ("a|b", [(10, "a|b")]),
    ("|", [(10, "|")]),
    ("(a|b)", [(10, "(a|b)")]),
    ("(a|b) [x:y:3]", [(10, "(a|b) [x:y:3]")]),
    ("[a|b] |", [(10, "[a|b] |")]),
    ("[a|b", [(10, "[a|b")]),
    ("[a|b [x:y:3]", [(10, "[a|b [x:y:3]")]),
    ("[a:b|c] [x:y:3]", [(10, "[a:b|c] [x:y:3]")]),
    ("[a|b:3]", [(10, "[a|b:3]")]),
    ("[a:[b|c:3]", [(10, "[a:[b|c:3]")]),
    ("[(a|b):3]", [(10, "[(a|b):3]")]),
    ("[a|b(] [x:y:3]", [(10, "[a|b(] [x:y:3]")]),
    # Backslashes protect a character, and stay for emphasis to read
    (r"\[a:b:3]", [(10, r"\[a:b:3]")]),
    (r"[\:a:b:2]", [(2, r"\:a"), (10, "b")]),
    (r"[a\:b:2]", [(2, ""), (10, r"a\:b")]),
    (r"[a\]:b:2]", [(2, r"a\]"), (10, "b")]),
    (r"[a\|b:3]", [(3, ""), (10, r"a\|b")]),
    (r"\|", [(10, r"\|")]),
    ("[a\\\\:b:2]", [(2, "a\\\\"), (10, "b")]),
    # ... and one without a character, at the end or before a line's end, makes the whole prompt text
    ("[a:b:2] \\", [(10, "[a:b:2] \\")]),
    ("[a:b:2] \\\nc", [(10, "[a:b:2] \\\nc")]),
]

HIRES: list[tuple[str, list[tuple[int, str]]]] = [
    ("a [b:.5] c", [(10, "a b c")]),
    ("a [b:1.5] c", [(5, "a  c"), (10, "a b c")]),
    ("a [b:1.0] c", [(10, "a b c")]),
    ("a [b:2.0] c", [(10, "a  c")]),
    ("a [b:5]", [(10, "a b")]),
    ("a [b:10]", [(10, "a b")]),
    ("a [b:13]", [(3, "a "), (10, "a b")]),
    ("a [b:20]", [(10, "a ")]),
    ("[a|b]", [(i, "ab"[(i - 1) % 2]) for i in range(1, 11)]),
]

OLD: list[tuple[str, list[tuple[int, str]]]] = [
    ("[a:b:.5]", [(5, "a"), (10, "b")]),
    ("[a:b:1.0]", [(1, "a"), (10, "b")]),
    ("[a:b:3.9]", [(3, "a"), (10, "b")]),
    ("[a:b:3]", [(3, "a"), (10, "b")]),
    ("[a:b:-0.5]", [(10, "b")]),
    ("[a:b:0]", [(10, "b")]),
]

R, S = 1.1, 1 / 1.1
BREAK = ("BREAK", -1.0)

# A text, and its pieces
WEIGHTS: list[tuple[str, list[tuple[str, float]]]] = [
    ("", [("", 1.0)]),
    ("a", [("a", 1.0)]),
    ("(a)", [("a", R)]),
    ("[a]", [("a", S)]),
    ("((a))", [("a", R * R)]),
    ("[[a]]", [("a", S * S)]),
    ("([a])", [("a", S * R)]),
    ("a (b) c", [("a ", 1.0), ("b", R), (" c", 1.0)]),
    ("an (important) word", [("an ", 1.0), ("important", R), (" word", 1.0)]),
    ("(a:1.3)", [("a", 1.3)]),
    ("(a: 1.3 )", [("a", 1.3)]),
    ("(a:\n1.3)", [("a", 1.3)]),
    ("(a:0)", [("a", 0.0)]),
    ("(a:-1)", [("a", -1.0)]),
    ("(a:+1.5)", [("a", 1.5)]),
    ("(a:.5)", [("a", 0.5)]),
    ("(a:2.)", [("a", 2.0)]),
    ("(a:1)", [("a", 1.0)]),
    ("((a:1.3))", [("a", 1.3 * R)]),
    ("((a):1.3)", [("a", R * 1.3)]),
    ("((a:1.2)b:1.5)", [("a", 1.2 * 1.5), ("b", 1.5)]),
    ("(a b:1.5)", [("a b", 1.5)]),
    ("(a, b:1.5), c", [("a, b", 1.5), (", c", 1.0)]),
    ("(a:b:1.5)", [("a:b", 1.5)]),
    # Neighbours of equal weight become one text, and so one word
    ("(a)(b)", [("ab", R)]),
    ("(a:1.1)(b)", [("ab", R)]),
    ("(un)[loose]", [("un", R), ("loose", S)]),
    # Not numbers
    ("(a:b)", [("a:b", R)]),
    ("(a:1.2e3)", [("a:1.2e3", R)]),
    ("(a:1.2.3)", [("a:1.2.3", R)]),  # A1111 fails on these two
    ("(a:.)", [("a:.", R)]),
    ("(a:)", [("a:", R)]),
    ("(a:1 2)", [("a:1 2", R)]),
    ("(a:nan)", [("a:nan", R)]),
    ("(:1.5)", []),  # nothing, weighted
    # A number outside of round brackets is text
    ("a:1.5", [("a:1.5", 1.0)]),
    ("a:1.5)", [("a:1.5)", 1.0)]),
    ("[a:1.2]", [("a:1.2", S)]),
    ("[a:1.2)", [("a:1.2)", S)]),
    # Open brackets count to the end, stray ones are text
    ("(a", [("a", R)]),
    ("[a", [("a", S)]),
    ("((a b", [("a b", R * R)]),
    ("a)", [("a)", 1.0)]),
    ("a]", [("a]", 1.0)]),
    ("(a))", [("a", R), (")", 1.0)]),
    ("a (b (c", [("a ", 1.0), ("b ", R), ("c", R * R)]),
    ("(a [b) c]", [("a ", R), ("b", R * S), (" c", S)]),  # the two kinds need not nest
    ("(a]", [("a]", R)]),
    ("(", [("", 1.0)]),
    (")", [(")", 1.0)]),
    ("()", [("", 1.0)]),
    # Escapes
    (r"\(a\)", [("(a)", 1.0)]),
    (r"\[a\]", [("[a]", 1.0)]),
    (r"(\(a\):1.5)", [("(a)", 1.5)]),
    (r"a\\b", [("a\\b", 1.0)]),
    (r"a\b", [("ab", 1.0)]),  # a backslash before anything else is dropped
    (r"\:", [(":", 1.0)]),
    ("a\\", [("a", 1.0)]),
    (r"(a\)", [("a)", R)]),
    (r"(a:1.5\)", [("a:1.5)", R)]),
    # BREAK
    ("a BREAK b", [("a", 1.0), BREAK, ("b", 1.0)]),
    ("a  BREAK\nb", [("a", 1.0), BREAK, ("b", 1.0)]),
    ("BREAK", [("", 1.0), BREAK, ("", 1.0)]),
    ("a BREAK BREAK b", [("a", 1.0), BREAK, ("", 1.0), BREAK, ("b", 1.0)]),
    ("a, BREAK, b", [("a,", 1.0), BREAK, (", b", 1.0)]),
    ("a break b", [("a break b", 1.0)]),
    ("a BREAKS b", [("a BREAKS b", 1.0)]),
    ("a_BREAK", [("a_BREAK", 1.0)]),
    ("(a) BREAK (b)", [("a", R), ("", 1.0), BREAK, ("", 1.0), ("b", R)]),
    ("(a BREAK b)", [("a", R), ("BREAK", -R), ("b", R)]),  # weights multiply the mark: it is a word now
    ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]),
    ("(a BREAK b:1)", [("a", 1.0), BREAK, ("b", 1.0)]),
    ("(a BREAK b", [("a", R), ("BREAK", -R), ("b", R)]),
]

# A prompt, and its (text, weight) sides
AND: list[tuple[str, list[tuple[str, float]]]] = [
    ("", [("", 1.0)]),
    ("a cat", [("a cat", 1.0)]),
    ("a cat ", [("a cat", 1.0)]),
    ("a AND b", [("a", 1.0), (" b", 1.0)]),
    ("a :1.2 AND b :0.5", [("a", 1.2), (" b", 0.5)]),
    ("a:1.2 AND b: -0.5 ", [("a", 1.2), (" b", -0.5)]),
    ("a AND b :2 AND c", [("a", 1.0), (" b", 2.0), (" c", 1.0)]),
    ("a : .5 AND b:+1.", [("a", 0.5), (" b", 1.0)]),
    ("a\nAND\nb", [("a", 1.0), ("\nb", 1.0)]),
    ("AND", [("", 1.0), ("", 1.0)]),
    ("a AND", [("a", 1.0), ("", 1.0)]),
    ("a and b", [("a and b", 1.0)]),
    ("SAND AND ANDES", [("SAND", 1.0), (" ANDES", 1.0)]),
    ("a,AND,b", [("a,", 1.0), (",b", 1.0)]),
    ("(a AND b:1.2)", [("(a", 1.0), (" b:1.2)", 1.0)]),  # brackets do not protect it
    ("[a:b:5]", [("[a:b:5]", 1.0)]),
    ("ratio 16:9", [("ratio 16", 9.0)]),  # any prompt that ends in a colon and a number has a weight
    ("a cat:1.5", [("a cat", 1.5)]),
    (":1.5", [("", 1.5)]),
    ("a:1.5e3", [("a:1.5e3", 1.0)]),
    ("a:b", [("a:b", 1.0)]),
    ("a:", [("a:", 1.0)]),
    ("a:1:2", [("a:1", 2.0)]),
    ("a:1,", [("a:1,", 1.0)]),
    ("a:1.2.3", [("a:1.2.3", 1.0)]),
]

# A prompt, what is left of it, and its networks as they would be written again
NETWORKS: list[tuple[str, str, list[str]]] = [
    ("a cat", "a cat", []),
    ("a <lora:ink> cat", "a  cat", ["<lora:ink>"]),
    ("<lora:ink:0.8>", "", ["<lora:ink:0.8>"]),
    ("<lora:ink:0.8:0.5>a", "a", ["<lora:ink:0.8:0.5>"]),
    ("<lora:ink:te=0.8:unet=0.5>", "", ["<lora:ink:te=0.8:unet=0.5>"]),
    ("<lyco:a:1><hypernet:b:0.5>", "", ["<lyco:a:1>", "<hypernet:b:0.5>"]),
    ("<what:ever> a", " a", ["<what:ever>"]),
    ("<lora:with blanks, and dots.v1:1>", "", ["<lora:with blanks, and dots.v1:1>"]),
    ("<lora:a<b:1>", "", ["<lora:a<b:1>"]),
    ("<lora:>", "<lora:>", []),
    ("<lora>", "<lora>", []),
    ("<lora:a", "<lora:a", []),
    ("<:a>", "<:a>", []),
    ("<lo ra:a>", "<lo ra:a>", []),
    ("a < b and c > d", "a < b and c > d", []),
    ("<<lora:a>>", "<>", ["<lora:a>"]),
    ("<lora:> <lora:a>", "<lora:> ", ["<lora:a>"]),
    ("<Lora:a:1>", "", ["<Lora:a:1>"]),
]

COMMENTS: list[tuple[str, str]] = [
    ("a cat", "a cat"),
    ("a # b", "a \n"),
    ("# b", "\n"),
    ("a\n# b\nc", "a\nc"),
    ("a # b\nc # d\ne", "a \nc \ne"),
    ("#a\n#b\nc", "\n\nc"),
    ("#fff sky", "\n"),  # also colours
    ("", ""),
]
