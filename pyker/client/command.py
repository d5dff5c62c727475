"""What a command is: its flags, its arguments, and the function that carries it out."""

from __future__ import annotations

from pyker.client.failure import UsageFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyker.client.flags import Flag, Options
    from pyker.client.surroundings import Surroundings

PROGRAM = "pyker"
ANY_NUMBER = -1


class Command:
    """One command. ``synopsis`` is what follows its name in the usage line; ``aliases`` are the paths it answers to.

    ``run`` returns the program's exit status. ``detail`` replaces the one-line description in the command's own help.
    ``tells_of_options`` is False where docker's usage line leaves ``[OPTIONS]`` out.
    """

    __slots__ = (
        "aliases",
        "detail",
        "flags",
        "interspersed",
        "least",
        "most",
        "path",
        "run",
        "summary",
        "synopsis",
        "tells_of_options",
    )

    def __init__(
        self,
        run: Callable[[Surroundings, Options], int],
        synopsis: str,
        *,
        flags: Sequence[Flag] = (),
        least: int = 0,
        most: int = ANY_NUMBER,
        interspersed: bool = True,
        aliases: Sequence[str] = (),
        detail: str = "",
        tells_of_options: bool = True,
    ) -> None:
        self.run = run
        self.synopsis = synopsis
        self.flags = flags
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.aliases = aliases
        self.detail = detail
        self.tells_of_options = tells_of_options
        self.path = ""
        self.summary = ""

    @property
    def full_name(self) -> str:
        return f"{PROGRAM} {self.path}"

    @property
    def usage(self) -> str:
        parts = (self.full_name, "[OPTIONS]" if self.flags and self.tells_of_options else "", self.synopsis)
        return " ".join(part for part in parts if part)

    def check_arguments(self, count: int) -> None:
        """Raise UsageFailure unless ``count`` arguments are right."""
        least, most = self.least, self.most
        if least <= count and (most == ANY_NUMBER or count <= most):
            return
        verb = "Run"
        if most == 0:
            wanted = "accepts no arguments"
        elif least == most:
            wanted = f"requires {least} argument{'s' if least != 1 else ''}"
        elif count < least:
            verb = "See"
            wanted = f"requires at least {least} argument{'s' if least != 1 else ''}"
        else:
            wanted = f"requires at most {most} argument{'s' if most != 1 else ''}"
        if most not in (ANY_NUMBER, least) and least:
            verb = "Run"
            wanted = f"requires at least {least} and at most {most} arguments"
        raise UsageFailure(
            f"{PROGRAM}: '{self.full_name}' {wanted}",
            1,
            usage=self.usage,
            hint=f"{verb} '{self.full_name} --help' for more information",
        )
