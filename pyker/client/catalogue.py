"""Every command's name: which module carries it out, and which of docker's commands are not there yet."""

from __future__ import annotations

from pyker.client.command import PROGRAM
from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyker.client.command import Command

# Path as typed -> (module under commands/, key of the command in the module's COMMANDS, what it does).
PATHS: dict[str, tuple[str, str, str]] = {
    "run": ("run", "run", "Make a container from an image and run it"),
    "exec": ("execute", "exec", "Run one more command in a running container"),
    "ps": ("ps", "ps", "List containers"),
    "pull": ("transfer", "pull", "Fetch an image from a registry"),
    "push": ("transfer", "push", "Send an image to a registry"),
    "images": ("images", "images", "List images"),
    "login": ("login", "login", "Log in to a registry"),
    "logout": ("login", "logout", "Forget what was used to log in to a registry"),
    "version": ("version", "version", "Tell the versions of both ends"),
    "info": ("info", "info", "Describe the engine and its host"),
    "jobs": ("jobs", "jobs", "List the engine's jobs, or draw one command's tree"),
    "attach": ("attach", "attach", "Join the streams of a running container"),
    "commit": ("images", "commit", "Make an image from a container's changes"),
    "create": ("run", "create", "Make a container without starting it"),
    "diff": ("files", "diff", "Show what a container has changed of its image"),
    "events": ("events", "events", "Follow what happens in the engine"),
    "export": ("files", "export", "Write a container's files to an archive"),
    "history": ("images", "history", "Tell how an image was made"),
    "import": ("images", "import", "Make an image from a tar archive"),
    "inspect": ("inspect", "inspect", "Show all that is known of an object"),
    "kill": ("lifecycle", "kill", "Send a signal to containers"),
    "logs": ("logs", "logs", "Show what a container has said"),
    "pause": ("lifecycle", "pause", "Freeze all processes of containers"),
    "port": ("lookup", "port", "List a container's published ports"),
    "rename": ("lifecycle", "rename", "Give a container another name"),
    "restart": ("lifecycle", "restart", "Stop containers and start them again"),
    "rm": ("lifecycle", "rm", "Remove containers"),
    "rmi": ("images", "rmi", "Remove images"),
    "load": ("archive", "load", "Take images out of an archive"),
    "save": ("archive", "save", "Write images to an archive"),
    "search": ("search", "search", "Ask a registry which images it has"),
    "start": ("start", "start", "Start containers that exist"),
    "stop": ("lifecycle", "stop", "Stop running containers"),
    "tag": ("images", "tag", "Give an image another name"),
    "top": ("lookup", "top", "Show the processes of a container"),
    "unpause": ("lifecycle", "unpause", "Thaw paused containers"),
    "update": ("update", "update", "Change the limits of containers that exist"),
    "wait": ("lifecycle", "wait", "Wait for containers to end, and print their exit codes"),
    "container attach": ("attach", "attach", ""),
    "container commit": ("images", "commit", ""),
    "container create": ("run", "create", ""),
    "container diff": ("files", "diff", ""),
    "container exec": ("execute", "exec", ""),
    "container export": ("files", "export", ""),
    "container inspect": ("inspect", "container inspect", "Show all that is known of containers"),
    "container kill": ("lifecycle", "kill", ""),
    "container logs": ("logs", "logs", ""),
    "container ls": ("ps", "ps", "List containers"),
    "container list": ("ps", "ps", ""),
    "container ps": ("ps", "ps", ""),
    "container pause": ("lifecycle", "pause", ""),
    "container port": ("lookup", "port", ""),
    "container prune": ("prune", "container prune", "Remove containers that do not run"),
    "container rename": ("lifecycle", "rename", ""),
    "container restart": ("lifecycle", "restart", ""),
    "container rm": ("lifecycle", "rm", ""),
    "container remove": ("lifecycle", "rm", ""),
    "container run": ("run", "run", ""),
    "container start": ("start", "start", ""),
    "container stop": ("lifecycle", "stop", ""),
    "container top": ("lookup", "top", ""),
    "container unpause": ("lifecycle", "unpause", ""),
    "container update": ("update", "update", ""),
    "container wait": ("lifecycle", "wait", ""),
    "image history": ("images", "history", ""),
    "image import": ("images", "import", ""),
    "image inspect": ("inspect", "image inspect", "Show all that is known of images"),
    "image load": ("archive", "load", ""),
    "image save": ("archive", "save", ""),
    "image ls": ("images", "images", "List images"),
    "image list": ("images", "images", ""),
    "image prune": ("prune", "image prune", "Remove images that nothing needs"),
    "image pull": ("transfer", "pull", ""),
    "image push": ("transfer", "push", ""),
    "image rm": ("images", "rmi", ""),
    "image remove": ("images", "rmi", ""),
    "image tag": ("images", "tag", ""),
    "network connect": ("networks", "network connect", "Put a container on a network"),
    "network create": ("networks", "network create", "Make a network"),
    "network disconnect": ("networks", "network disconnect", "Take a container off a network"),
    "network inspect": ("inspect", "network inspect", "Show all that is known of networks"),
    "network ls": ("networks", "network ls", "List networks"),
    "network list": ("networks", "network ls", ""),
    "network prune": ("networks", "network prune", "Remove networks that no container is on"),
    "network rm": ("networks", "network rm", "Remove networks"),
    "network remove": ("networks", "network rm", ""),
    "system events": ("events", "events", ""),
    "system df": ("system", "system df", "Show what takes how much of the disk"),
    "system info": ("info", "info", ""),
    "system prune": ("system", "system prune", "Remove whatever nobody uses"),
    "volume create": ("volumes", "volume create", "Make a volume"),
    "volume inspect": ("inspect", "volume inspect", "Show all that is known of volumes"),
    "volume ls": ("volumes", "volume ls", "List volumes"),
    "volume list": ("volumes", "volume ls", ""),
    "volume prune": ("volumes", "volume prune", "Remove volumes that no container uses"),
    "volume rm": ("volumes", "volume rm", "Remove volumes"),
    "volume remove": ("volumes", "volume rm", ""),
}

GROUPS: dict[str, str] = {
    "container": "Work with containers",
    "image": "Work with images",
    "network": "Work with networks",
    "system": "Work with the engine as a whole",
    "volume": "Work with volumes",
}

COMMON = ("run", "exec", "ps", "pull", "push", "images", "login", "logout", "version", "info", "jobs")

# Names under which a group repeats another of its commands; help shows the first.
SECOND_NAMES = {
    "container list": "container ls",
    "container ps": "container ls",
    "container remove": "container rm",
    "image list": "image ls",
    "image remove": "image rm",
    "network list": "network ls",
    "network remove": "network rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
}

NOT_THERE_YET = frozenset(
    [
        "build",
        "builder",
        "buildx",
        "bake",
        "checkpoint",
        "compose",
        "config",
        "context",
        "cp",
        "manifest",
        "node",
        "plugin",
        "secret",
        "service",
        "stack",
        "stats",
        "swarm",
        "trust",
    ]
)

NOT_THERE_YET_IN_GROUPS: dict[str, frozenset[str]] = {
    "container": frozenset(["cp", "stats"]),
    "image": frozenset(["build"]),
    "system": frozenset(["dial-stdio"]),
    "volume": frozenset(["update"]),
}


def find(words: list[str]) -> tuple[Command, list[str]] | None:
    """The command that ``words`` begin with, and the words that are left for it; None if they name none."""
    path = words[0]
    if path in GROUPS:
        if len(words) < 2:
            return None
        path = f"{words[0]} {words[1]}"
    if path not in PATHS:
        return None
    return load(path), words[len(path.split(" ")) :]


def load(path: str) -> Command:
    """Import the module behind ``path`` and return its command."""
    module_name, key, summary = PATHS[path]
    module = __import__(f"pyker.client.commands.{module_name}", fromlist=["COMMANDS"])
    command: Command = module.COMMANDS[key]
    command.path = SECOND_NAMES.get(path, path)
    command.summary = summary or _summary_of(module_name, key)
    return command


def _summary_of(module: str, key: str) -> str:
    return next((text for name, of, text in PATHS.values() if (name, of) == (module, key) and text), "")


def entries(group: str) -> list[tuple[str, str]]:
    """The commands of ``group`` ("" for those without one), with what they do."""
    found = []
    for path, (module, key, summary) in PATHS.items():
        head, _, tail = path.rpartition(" ")
        if head == group and path not in SECOND_NAMES:
            found.append((tail, summary or _summary_of(module, key)))
    return sorted(found)


def refuse(words: list[str]) -> Failure:
    """Why ``words`` name no command: not there yet, or unknown."""
    first = words[0]
    if first in NOT_THERE_YET:
        return Failure(f"{PROGRAM}: '{PROGRAM} {first}' is not there yet\n\nRun '{PROGRAM} --help' for what is")
    if first in GROUPS:
        name = f"{PROGRAM} {first}"
        second = words[1]
        if second in NOT_THERE_YET_IN_GROUPS.get(first, ()):
            return Failure(f"{PROGRAM}: '{name} {second}' is not there yet\n\nRun '{name} --help' for what is")
        return Failure(
            f"{PROGRAM}: unknown command: {name} {second}\n\nUsage:  {name}\n\nRun '{name} --help' for more information"
        )
    return Failure(f"{PROGRAM}: unknown command: {PROGRAM} {first}\n\nRun '{PROGRAM} --help' for more information")
