"""Completion for bash, from the same tables as help: ``python -m pyker.client.completion`` prints it.

Names of containers, images and networks are asked of the daemon when they are needed. Source: bash(1), "Programmable
Completion".
"""

from __future__ import annotations

from pyker.client import catalogue
from pyker.client.main import GLOBAL_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyker.client.flags import Flag

# What an argument of a command names.
ASKS = {
    "running": "attach exec kill pause port restart stop top unpause",
    "containers": "inspect logs rename rm start wait",
    "images": "create history images push rmi run tag",
    "networks": "network_inspect",
}

HEAD = """# bash completion for pyker

_pyker_names() {
  case "$1" in
    running) pyker ps --format '{{.Names}}' 2>/dev/null ;;
    containers) pyker ps -a --format '{{.Names}}' 2>/dev/null ;;
    images) pyker images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -v '<none>' ;;
    networks) pyker network ls --format '{{.Name}}' 2>/dev/null ;;
  esac
}

"""

BODY = """
_pyker() {
  local word=${COMP_WORDS[COMP_CWORD]} path='' valued='' index=1 ask
  while (( index < COMP_CWORD )); do
    case "${COMP_WORDS[index]}" in
      -H|--host|-c|--context|--config|-l|--log-level|--tlscacert|--tlscert|--tlskey) (( index += 1 )) ;;
      -*) ;;
      *) path=${COMP_WORDS[index]}; break ;;
    esac
    (( index += 1 ))
  done
  if [[ -n "${_pyker_groups[${path:-none}]}" && $index -lt $((COMP_CWORD - 1)) ]]; then
    path="${path}_${COMP_WORDS[index + 1]}"
  elif [[ -n "${_pyker_groups[${path:-none}]}" ]]; then
    COMPREPLY=($(compgen -W "${_pyker_groups[${path:-none}]}" -- "$word"))
    return
  fi
  if [[ -z "$path" ]]; then
    if [[ "$word" == -* ]]; then
      COMPREPLY=($(compgen -W "$_pyker_globals" -- "$word"))
    else
      COMPREPLY=($(compgen -W "$_pyker_commands" -- "$word"))
    fi
    return
  fi
  valued=" ${_pyker_valued[$path]} "
  if [[ "$word" == -* ]]; then
    COMPREPLY=($(compgen -W "${_pyker_flags[$path]}" -- "$word"))
  elif [[ "$valued" == *" ${COMP_WORDS[COMP_CWORD - 1]} "* ]]; then
    COMPREPLY=($(compgen -f -- "$word"))
  else
    ask=${_pyker_asks[$path]}
    if [[ -n "$ask" ]]; then
      COMPREPLY=($(compgen -W "$(_pyker_names "$ask")" -- "$word"))
      __ltrim_colon_completions "$word" 2>/dev/null || true
    else
      COMPREPLY=($(compgen -f -- "$word"))
    fi
  fi
}

complete -F _pyker pyker
"""


def _forms(flags: Sequence[Flag], *, valued: bool = False) -> str:
    found: list[str] = []
    for flag in flags:
        if flag.hidden or (valued and flag.kind == "bool"):
            continue
        found.append(f"--{flag.name}")
        if valued and flag.short:
            found.append(f"-{flag.short}")
    return " ".join(sorted(found))


def bash_completion() -> str:
    """The whole script."""
    names = [path for path in catalogue.PATHS if " " not in path]
    lines = [f'_pyker_commands="{" ".join(sorted([*names, *catalogue.GROUPS, "daemon", "help"]))}"']
    lines.append(f'_pyker_globals="{_forms(GLOBAL_FLAGS)} --help"')
    lines.append("declare -A _pyker_groups _pyker_flags _pyker_valued _pyker_asks")
    for group in catalogue.GROUPS:
        lines.append(f'_pyker_groups[{group}]="{" ".join(name for name, _ in catalogue.entries(group))}"')
    asks = {name: kind for kind, commands in ASKS.items() for name in commands.split()}
    for path, (_module, key, _summary) in sorted(catalogue.PATHS.items()):
        command = catalogue.load(path)
        place = path.replace(" ", "_")
        lines.append(f'_pyker_flags[{place}]="{(_forms(command.flags) + " --help").strip()}"')
        if valued := _forms(command.flags, valued=True):
            lines.append(f'_pyker_valued[{place}]="{valued}"')
        if kind := asks.get(key.replace(" ", "_")) or {"container": "containers", "image": "images"}.get(
            key.split()[0]
        ):
            lines.append(f'_pyker_asks[{place}]="{kind}"')
    return HEAD + "\n".join(lines) + "\n" + BODY


if __name__ == "__main__":
    print(bash_completion(), end="")
