"""The command line: which command with which settings.

Parses with the standard library alone, so that --help and slips of the pen are answered at once and before anything is
installed.  What a command does is in `modules.commands`; this file knows only their flags.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from modules import __version__
from modules.errors import AtelierError, SettingsError
from modules.logs import PlainLines
from modules.options import FROM_PICTURES, OPTIONS, Groups, Option, joined
from modules.settings import FILE_NAME, FILE_VARIABLE, TABLE, Setting, Settings, load, unknown_variables

USAGE_ERROR = 2
"""Exit code when something on the command line, in the environment or in the settings file makes no sense."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""

NO_OPTIONS: Groups = {}


@dataclass(frozen=True)
class Options:
    """A parsed command line.  `flags` are settings by name; `values` are what the command itself was told.

    `again` are its words where they are to be parsed again when the options of extensions are known, () where not.
    """

    command: str
    flags: dict[str, Any]
    file: str | None
    values: argparse.Namespace
    again: tuple[str, ...] = ()

    @property
    def extras(self) -> list[str]:
        """Which optional dependencies the command needs."""
        return ["test"] if self.command == "test" else []


def parse(arguments: Sequence[str], extensions: Groups = NO_OPTIONS) -> Options:
    """Read the command line; ends the process with one line and code 2 where it makes no sense.

    `extensions` are the options of extensions that `generate` takes, by group.
    """
    given = list(arguments)
    rest: list[str] = []
    parser = build_parser(extensions)
    place = _command_at(parser, given)
    if given[place : place + 1] == ["test"] and not {"-h", "--help"} & set(given[place + 1 :]):
        given, rest = given[: place + 1], given[place + 1 :]  # what follows is pytest's, whatever it looks like
    of_extensions = extensions is NO_OPTIONS and given[place : place + 1] == ["generate"]
    values = parser.parse_args(_without_extensions(given) if of_extensions else given)
    if values.command == "test":
        values.pytest = rest
    flags = {}
    for setting in TABLE:
        before: Any = getattr(values, f"before_{setting.name}", None)
        after: Any = getattr(values, f"after_{setting.name}", None)
        both = setting.repeatable and before and after
        flags[setting.name] = [*before, *after] if both else after if after is not None else before
    file = getattr(values, "after_settings", None) or getattr(values, "before_settings", None)
    wanted = of_extensions and (values.help_extensions or _without_extensions(given) != given)
    return Options(values.command or "serve", flags, file, values, tuple(given) if wanted else ())


def _without_extensions(given: Sequence[str]) -> list[str]:
    """The words without what looks like options of extensions, --NAME.FIELD, and what stands behind each.

    >>> _without_extensions(["generate", "a cat", "--glow.strength", "0.5", "--glow.shift=-1", "--steps", "5"])
    ['generate', 'a cat', '--steps', '5']
    """
    left: list[str] = []
    words = iter(given)
    for word in words:
        if re.fullmatch(r"--(no-)?[a-z][a-z0-9-]*\.[a-z0-9.-]+", word):
            after = next(words, "-")
            if after.startswith("--"):
                left += _without_extensions([after, *words])
        elif not re.match(r"--(no-)?[a-z][a-z0-9-]*\.[a-z0-9.-]+=", word):
            left.append(word)
    return left


def run(options: Options, problem: str = "") -> int:
    """Carry out a command; returns the exit code.  `problem` is what kept the set-up from being made, for the doctor."""
    signal.signal(signal.SIGTERM, _leave)
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no "█" or no emoji shows "?", and nothing fails
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    to_terminal = logging.StreamHandler()
    to_terminal.setFormatter(PlainLines("%(message)s"))
    logging.basicConfig(level=logging.INFO if options.command == "serve" else logging.WARNING, handlers=[to_terminal])
    try:
        settings = load(options.flags, file=options.file)
        if options.again:
            options = _with_extensions(options, settings)
        for stray in unknown_variables():
            print(f"atelier: {stray}", file=sys.stderr)
        return _command(options.command, problem)(options.values, settings)
    except SettingsError as error:
        return _say(error, USAGE_ERROR)
    except AtelierError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _with_extensions(options: Options, settings: Settings) -> Options:
    """The same command line, parsed with the options of the extensions that are on; ends with --help-extensions."""
    from modules.extensions.discovery import folders_of
    from modules.extensions.service import Extensions
    from modules.request.extensions import offered

    trusting = not settings.needs_accounts
    extensions = Extensions(folders_of(settings), settings.data_dir, settings.extensions_off, trusting)
    extensions.start()
    try:
        groups = offered()
    finally:
        extensions.close()
    if options.values.help_extensions:
        parser = _Parser(prog="webui.py generate", usage="webui.py generate [PROMPT] [OPTIONS]", add_help=False)
        _add_groups(parser, groups)
        print(parser.format_help() if groups else "No extension that is on has options.")
        raise SystemExit(0)
    return parse(options.again, groups)


def _command(name: str, problem: str) -> Callable[[argparse.Namespace, Settings], int]:
    """Imported only when it is wanted: each brings what it needs and no more."""
    if name == "generate":
        from modules.commands import generate

        return generate.run
    if name == "verify":
        from modules.commands import verify

        return verify.run
    if name == "doctor":
        from modules import doctor

        return lambda values, settings: doctor.run(values, settings, problem)
    if name == "accounts":
        from modules.commands import accounts

        return accounts.run
    if name == "models":
        from modules.commands import models

        return models.run
    if name == "extension":
        from modules.commands import extension

        return extension.run
    if name == "test":
        from modules.commands import check

        return check.run
    from modules.commands import serve

    return serve.run


def _say(error: Exception, code: int) -> int:
    print(f"atelier: {error}", file=sys.stderr)
    return code


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM is a polite request: unwind, so that the engine is stopped and nothing is left torn."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


# ---- flags


class _Parser(argparse.ArgumentParser):
    """One line for a slip of the pen instead of a screen of usage."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"atelier: {message}; see {self.prog} --help\n")


def build_parser(extensions: Groups = NO_OPTIONS) -> argparse.ArgumentParser:
    """The whole command line.  Settings may stand before and after the command."""
    parser = _Parser(
        prog="webui.py",
        description="Atelier: a Stable Diffusion web UI that a house shares. Without a command it serves the page.",
        epilog=_epilog(),
        parents=[_settings_parser("before")],
    )
    parser.add_argument("--version", action="version", version=f"Atelier {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    after = [_settings_parser("after")]

    commands.add_parser("serve", parents=after, help="serve the page (what happens without a command)", epilog=_epilog())
    usage = "webui.py [SETTINGS] generate [PROMPT] [OPTIONS]"
    _generate(
        commands.add_parser(
            "generate", parents=after, help="make pictures without a server", description=_GENERATE, usage=usage
        ),
        extensions,
    )
    verify = commands.add_parser(
        "verify",
        parents=after,
        help="compare the pictures on disk with the job list, and make some again",
        description="Read every picture of the job list and compare its SHA-256. Changes nothing; may run beside a server.",
    )
    verify.add_argument("--render", metavar="N", help="also make the N newest again from their own metadata, and compare")
    accounts = commands.add_parser(
        "accounts",
        parents=after,
        help="who may come in: list, invite, remove, reset, tokens",
        description="Who may come in. May run beside a server.",
    )
    _accounts(accounts)
    _models(
        commands.add_parser(
            "models",
            help="get models, and make model files: merge, bake, extract-lora, merge-loras, convert",
            description="Get models, and make new ones of them. May run beside a server; a file is seen when it is whole.",
        ),
        after,
    )
    _extension(
        commands.add_parser(
            "extension",
            help="extensions: list, show, enable, disable, install, update, remove, new",
            description="Extensions. May run beside a server, which sees changes at its next start.",
        ),
        after,
    )
    doctor = commands.add_parser(
        "doctor", parents=after, help="what this machine has, what was chosen and why, what is missing"
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument(
        "--check",
        action="store_true",
        help="also compute on the device, in each number format, and compare with the processor (up to a minute)",
    )
    test = commands.add_parser(
        "test",
        parents=after,
        help="check format, lint, types and layers, then run all tests",
        usage="webui.py [SETTINGS] test [PYTEST ARGUMENTS]",
        description="Check format, lint, types and layers, then run the tests. What follows goes to pytest: -k samplers -x",
    )
    test.set_defaults(pytest=[])
    return parser


def _models(parser: argparse.ArgumentParser, settings: list[_Parser]) -> None:
    """The tools that get models and make model files of model files."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser)

    def action(name: str, text: str, more: str = "") -> Callable[..., Any]:
        made = actions.add_parser(name, parents=settings, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip())
        made.add_argument("--force", action="store_true", help="replace a file that has the new name")
        made.add_argument("--json", action="store_true", help="print one JSON list: files and notes; no progress")
        return made.add_argument

    def common(add: Callable[..., Any], dtype: str) -> None:
        add("--output", metavar="NAME", required=True, help="the new file's name; it goes into the first models folder")
        formats = ("keep", "fp32", "fp16", "bf16")
        add("--format", dest="dtype", choices=formats, help=f"number format of the new file [{dtype}]")

    lora_help = "a LoRA's name or file, with NAME:S its strength, with NAME:S:T another for text encoders; -4 to 4 [1]"
    add = action("merge", "merge checkpoints: weighted sum A(1-M) + BM, or add difference A + (B-C)M")
    add("a", metavar="A", help="a checkpoint's name or file; its layout, yaml and settings are kept")
    add("b", metavar="B", help="the checkpoint that is merged into it")
    add("--c", metavar="C", help="with --method difference: what is subtracted from B")
    add("--method", choices=("weighted", "difference"), help="[weighted]")
    add("--multiplier", metavar="M", help="how much of B, -2 to 3; 0 is A, 1 is B (weighted) [0.5]")
    add(
        "--blocks",
        metavar="LIST",
        help="M by block: 26 numbers for SD 1.x, 20 for SDXL (BASE,IN00..,M00,OUT00..), or IN04=0.3,M00=1",
    )
    add("--parts", choices=("all", "unet", "text"), help="what is merged; the rest is A's [all]")
    add("--vae", metavar="VAE", help="a, b, merge, or the name of a VAE file: whose autoencoder [a]")
    common(add, "keep")

    add = action("bake", "bake LoRAs into a checkpoint")
    add("checkpoint", metavar="CHECKPOINT", help="a checkpoint's name or file")
    add("loras", metavar="LORA", nargs="+", help=lora_help)
    common(add, "keep")

    add = action("extract-lora", "extract a LoRA: TUNED minus BASE, cut to a rank by singular values")
    add("base", metavar="BASE", help="the checkpoint that the LoRA is for")
    add("tuned", metavar="TUNED", help="the checkpoint that BASE becomes with it")
    add("--rank", metavar="N", help="of linear layers, 1 to 4096 [32]")
    add("--conv-rank", metavar="N", help="of convolutions larger than 1x1, 0 to 4096; 0 leaves them out [0]")
    add("--alpha", metavar="A", help="alpha of a layer of full rank, 0 to 4096; 0 is the rank [0]")
    add("--clamp", metavar="Q", help="clamp the factors' numbers at this quantile, above 0.5 to 1; 1 does not clamp [1]")
    add("--text", action=argparse.BooleanOptionalAction, default=None, help="also of text encoders [yes]")
    add(
        "--rest",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also biases, norms, first and last layers, as full differences [no]",
    )
    common(add, "fp16")

    add = action("merge-loras", "merge LoRAs into one")
    add("loras", metavar="LORA", nargs="+", help=lora_help)
    add("--method", choices=("concat", "svd"), help="concat is exact, its ranks add up; svd cuts to --rank [concat]")
    add("--rank", metavar="N", help="with svd: of linear layers, 1 to 4096 [32]")
    add("--conv-rank", metavar="N", help="with svd: of convolutions larger than 1x1; 0 is --rank [0]")
    add("--checkpoint", metavar="NAME", help="the checkpoint that they are for; needed for other kinds than LoRA")
    common(add, "fp16")

    more = (
        "Goes into the first models folder. An interrupted download goes on when it is asked for again. Private and gated "
        "repositories need $HF_TOKEN; $HF_ENDPOINT names another hub."
    )
    add = action("get", "get a model from a Hugging Face repository or by a link", more)
    add("source", metavar="SOURCE", help="owner/name, owner/name@revision, owner/name/FILE, its page, or the link of a file")
    add("--file", metavar="FILE", help="which file of the repository; model_index.json is its whole diffusers pipeline")
    kinds = ("auto", "checkpoints", "loras", "vae", "embeddings", "hypernetworks")
    add("--to", choices=kinds, help="which folder it goes into; auto is by what its tensors are [auto]")
    add("--fp16", action="store_const", const=True, help="the fp16 variant, where there is one")
    add("--output", metavar="NAME", help="its name here, without the ending [as there]")
    add("--sha256", metavar="HEX", help="what a linked file must hash to; files of repositories are always checked")

    more = "Pickles are opened in a limited process by torch's restricted unpickler; what would run programs is refused."
    add = action("convert", "convert pickles (.ckpt, .pt, .pth, .bin) and diffusers' folders to .safetensors beside them", more)
    add("files", metavar="FILE", nargs="+", help="a pickle or a folder in diffusers' layout, by its path or its name here")


def _accounts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=("list", "invite", "remove", "reset", "tokens"), help="invite and reset print a one-time code")
    add("name", metavar="NAME", nargs="?", help="whose: for remove, reset (a new password) and tokens")
    add("--role", metavar="ROLE", default="user", help="invite: viewer, user or administrator [user]")
    add("--hours", metavar="N", default="24", help="invite, reset: how long the code works [24]")
    add("--new", metavar="LABEL", help="tokens: make an API token, which is printed this once")
    add("--revoke", metavar="ID", help="tokens: revoke the token of this id")


def _extension(parser: argparse.ArgumentParser, settings: list[_Parser]) -> None:
    """What may be done with extensions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser)

    def action(
        name: str, text: str, what: str = "NAME", about: str = "the extension's name", more: str = ""
    ) -> Callable[..., Any]:
        made = actions.add_parser(name, parents=settings, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip())
        if what:
            made.add_argument("name", metavar=what, help=about)
        return made.add_argument

    confirmed = "answer yes to what would be asked"
    action("list", "list all extensions with their versions and states", "")(
        "--json", action="store_true", help="print one JSON list"
    )
    action("show", "show what is known of an extension")
    action("enable", "switch an extension on")("--yes", action="store_true", help=confirmed)
    action("disable", "switch an extension off")
    more = (
        "It is fetched, shown and then asked about; nothing of it runs before it is switched on. Packages that it needs are "
        "installed only where that changes no package that is installed."
    )
    where = "https://HOST/PATH of a git repository, with #BRANCH or #TAG; a folder with a repository; or a zip file"
    add = action("install", "install an extension from a git address, a repository here, or a zip", "ADDRESS", where, more)
    add("--yes", action="store_true", help=confirmed)
    add("--enable", action="store_true", help="switch it on too")
    add = action("update", "fetch the newest version of an extension from where it came, and show what changes")
    add("--yes", action="store_true", help=confirmed)
    add = action("remove", "move an extension into the trash of the data folder, or delete it")
    add("--yes", action="store_true", help=confirmed)
    add("--delete", action="store_true", help="delete it for good")
    action("new", "write a small extension with a test, to begin from", about="its name: lower-case letters, digits and _")


_GENERATE = """Make pictures without a server. What is not given comes from the checkpoint's own defaults."""


def _generate(parser: argparse.ArgumentParser, extensions: Groups) -> None:
    add = parser.add_argument
    add("prompt", metavar="PROMPT", nargs="?", help="what to see")
    add("--negative", metavar="TEXT", dest="negative_prompt", help="what not to see")
    add("--seed", metavar="N", help="-1 for a random one; picture k of several uses seed + k")
    add("--steps", metavar="N", help="sampling steps, 1 to 150")
    add("--cfg", metavar="SCALE", dest="cfg_scale", help="how closely to follow the prompt, 0 to 50")
    add("--sampler", metavar="NAME", help='such as "Euler a" or "DPM++ 2M"')
    add("--schedule", metavar="NAME", help='noise schedule, such as "Karras"')
    add("--size", metavar="WxH", help="pixels, multiples of 8, such as 512x768")
    add("--count", metavar="N", help="how many pictures")
    add("--checkpoint", metavar="NAME", help="a checkpoint of the models folders (doctor lists them)")
    add("--from", metavar="FILE", dest="source", help="take all settings from this picture; other flags override them")
    add(
        "--output",
        metavar="FILE|DIR",
        help="save there instead of in the outputs folder: a name that ends in .png, .jpg, .webp or .avif, or a folder",
    )
    add("--json", action="store_true", help="print one JSON object: files, seeds, infotext, seconds")

    add = parser.add_argument_group("from a picture").add_argument
    add("--init", metavar="PICTURE", help="start from this picture; without --size at its shape and the checkpoint's own area")
    add("--mask", metavar="PICTURE", help="repaint only where this picture is white; of the same size as --init")
    add("--strength", metavar="S", dest="denoising_strength", help="how much is painted anew, 0 to 1 [0.75]")
    for option in FROM_PICTURES:
        _option(add, option)
    add("--help-extensions", action="store_true", help="show the options of the extensions that are on, and exit")
    _add_groups(parser, joined(OPTIONS, extensions))


def _add_groups(parser: argparse.ArgumentParser, groups: Groups) -> None:
    for group, options in groups.items():
        add = parser.add_argument_group(f"options: {group.lower()}").add_argument
        for option in options:
            _option(add, option)


def _option(add: Callable[..., Any], option: Option) -> None:
    text = f"{option.help}: {', '.join(option.choices)}" if option.choices else option.help
    if option.switch:
        add(option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        add(option.flag, dest=option.name, metavar="NAME" if option.choices else "N", help=text)


def _settings_parser(place: str) -> _Parser:
    """The flags of all settings.  `place` keeps those before and after the command apart: one would undo the other."""
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("settings (all commands; before or after the command)")
    group.add_argument(
        "--settings",
        metavar="FILE",
        dest=f"{place}_settings",
        default=argparse.SUPPRESS,
        help=f"read settings from this TOML file [DATA_DIR/{FILE_NAME}; ${FILE_VARIABLE}]",
    )
    for setting in TABLE:
        group.add_argument(*_names(setting), **_kind(setting), dest=f"{place}_{setting.name}", help=_help(setting))
    return parser


def _names(setting: Setting) -> list[str]:
    return [f"--{setting.name.replace('_', '-')}"]


def _kind(setting: Setting) -> dict[str, Any]:
    kind: dict[str, Any] = {"default": argparse.SUPPRESS}
    if setting.is_switch:
        return kind | {"action": argparse.BooleanOptionalAction}
    return kind | {"metavar": setting.metavar, "action": "append" if setting.repeatable else "store"}


def _help(setting: Setting) -> str:
    return f"{setting.help} [{setting.default}; ${setting.variable}]".replace("%", "%%")


def _epilog() -> str:
    keys = ", ".join(setting.name for setting in TABLE)
    return (
        "A setting is taken from the command line, else from the environment, else from the settings file, else it has\n"
        f"the default shown in brackets. Keys of the settings file: {keys}."
    )


def _command_at(parser: argparse.ArgumentParser, given: Sequence[str]) -> int:
    """Where the command stands among the words: the first that is neither a flag nor the value of one."""
    flags = {name: action for action in parser._actions for name in action.option_strings}  # there is no public way to ask
    place = 0
    while place < len(given) and given[place].startswith("-"):
        action = flags.get(given[place])
        place += 2 if action is not None and action.nargs is None else 1
    return place


if __name__ == "__main__":
    sys.exit(run(parse(sys.argv[1:])))
