# bash completion for pyker

_pyker_names() {
  case "$1" in
    running) pyker ps --format '{{.Names}}' 2>/dev/null ;;
    containers) pyker ps -a --format '{{.Names}}' 2>/dev/null ;;
    images) pyker images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -v '<none>' ;;
    networks) pyker network ls --format '{{.Name}}' 2>/dev/null ;;
  esac
}

_pyker_commands="attach commit container create daemon events exec help history image images import info inspect jobs kill load login logout logs network pause port ps pull push rename restart rm rmi run save search start stop system tag top unpause version volume wait"
_pyker_globals="--config --context --debug --host --log-level --tls --tlscacert --tlscert --tlskey --tlsverify --version --help"
declare -A _pyker_groups _pyker_flags _pyker_valued _pyker_asks
_pyker_groups[container]="attach commit create exec inspect kill logs ls pause port rename restart rm run start stop top unpause wait"
_pyker_groups[image]="history import inspect load ls pull push rm save tag"
_pyker_groups[network]="inspect ls"
_pyker_groups[system]="events info"
_pyker_groups[volume]="create inspect ls prune rm"
_pyker_flags[attach]="--detach-keys --no-stdin --sig-proxy --help"
_pyker_valued[attach]="--detach-keys"
_pyker_asks[attach]="running"
_pyker_flags[commit]="--author --change --message --pause --help"
_pyker_valued[commit]="--author --change --message -a -c -m"
_pyker_flags[container_attach]="--detach-keys --no-stdin --sig-proxy --help"
_pyker_valued[container_attach]="--detach-keys"
_pyker_asks[container_attach]="running"
_pyker_flags[container_commit]="--author --change --message --pause --help"
_pyker_valued[container_commit]="--author --change --message -a -c -m"
_pyker_flags[container_create]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --help --hostname --init --interactive --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --tty --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir --help"
_pyker_valued[container_create]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --hostname --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir -a -c -e -h -l -m -p -u -v -w"
_pyker_asks[container_create]="images"
_pyker_flags[container_exec]="--detach --detach-keys --env --env-file --interactive --privileged --tty --user --workdir --help"
_pyker_valued[container_exec]="--detach-keys --env --env-file --user --workdir -e -u -w"
_pyker_asks[container_exec]="running"
_pyker_flags[container_inspect]="--format --size --help"
_pyker_valued[container_inspect]="--format -f"
_pyker_asks[container_inspect]="containers"
_pyker_flags[container_kill]="--signal --help"
_pyker_valued[container_kill]="--signal -s"
_pyker_asks[container_kill]="running"
_pyker_flags[container_list]="--all --filter --format --last --latest --no-trunc --quiet --size --help"
_pyker_valued[container_list]="--filter --format --last -f -n"
_pyker_flags[container_logs]="--details --follow --since --tail --timestamps --until --help"
_pyker_valued[container_logs]="--since --tail --until -n"
_pyker_asks[container_logs]="containers"
_pyker_flags[container_ls]="--all --filter --format --last --latest --no-trunc --quiet --size --help"
_pyker_valued[container_ls]="--filter --format --last -f -n"
_pyker_flags[container_pause]="--help"
_pyker_asks[container_pause]="running"
_pyker_flags[container_port]="--help"
_pyker_asks[container_port]="running"
_pyker_flags[container_ps]="--all --filter --format --last --latest --no-trunc --quiet --size --help"
_pyker_valued[container_ps]="--filter --format --last -f -n"
_pyker_flags[container_remove]="--force --link --volumes --help"
_pyker_asks[container_remove]="containers"
_pyker_flags[container_rename]="--help"
_pyker_asks[container_rename]="containers"
_pyker_flags[container_restart]="--signal --timeout --help"
_pyker_valued[container_restart]="--signal --timeout -s -t"
_pyker_asks[container_restart]="running"
_pyker_flags[container_rm]="--force --link --volumes --help"
_pyker_asks[container_rm]="containers"
_pyker_flags[container_run]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --help --hostname --init --interactive --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --tty --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir --help"
_pyker_valued[container_run]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --hostname --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir -a -c -e -h -l -m -p -u -v -w"
_pyker_asks[container_run]="images"
_pyker_flags[container_start]="--attach --detach-keys --interactive --help"
_pyker_valued[container_start]="--detach-keys"
_pyker_asks[container_start]="containers"
_pyker_flags[container_stop]="--signal --timeout --help"
_pyker_valued[container_stop]="--signal --timeout -s -t"
_pyker_asks[container_stop]="running"
_pyker_flags[container_top]="--help"
_pyker_asks[container_top]="running"
_pyker_flags[container_unpause]="--help"
_pyker_asks[container_unpause]="running"
_pyker_flags[container_wait]="--help"
_pyker_asks[container_wait]="containers"
_pyker_flags[create]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --help --hostname --init --interactive --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --tty --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir --help"
_pyker_valued[create]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --hostname --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir -a -c -e -h -l -m -p -u -v -w"
_pyker_asks[create]="images"
_pyker_flags[events]="--filter --format --since --until --help"
_pyker_valued[events]="--filter --format --since --until -f"
_pyker_flags[exec]="--detach --detach-keys --env --env-file --interactive --privileged --tty --user --workdir --help"
_pyker_valued[exec]="--detach-keys --env --env-file --user --workdir -e -u -w"
_pyker_asks[exec]="running"
_pyker_flags[history]="--format --human --no-trunc --quiet --help"
_pyker_valued[history]="--format"
_pyker_asks[history]="images"
_pyker_flags[image_history]="--format --human --no-trunc --quiet --help"
_pyker_valued[image_history]="--format"
_pyker_asks[image_history]="images"
_pyker_flags[image_import]="--change --message --platform --help"
_pyker_valued[image_import]="--change --message --platform -c -m"
_pyker_flags[image_inspect]="--format --help"
_pyker_valued[image_inspect]="--format -f"
_pyker_asks[image_inspect]="images"
_pyker_flags[image_list]="--all --digests --filter --format --no-trunc --quiet --help"
_pyker_valued[image_list]="--filter --format -f"
_pyker_asks[image_list]="images"
_pyker_flags[image_load]="--input --quiet --help"
_pyker_valued[image_load]="--input -i"
_pyker_flags[image_ls]="--all --digests --filter --format --no-trunc --quiet --help"
_pyker_valued[image_ls]="--filter --format -f"
_pyker_asks[image_ls]="images"
_pyker_flags[image_pull]="--all-tags --platform --quiet --help"
_pyker_valued[image_pull]="--platform"
_pyker_flags[image_push]="--all-tags --platform --quiet --help"
_pyker_valued[image_push]="--platform"
_pyker_asks[image_push]="images"
_pyker_flags[image_remove]="--force --no-prune --help"
_pyker_asks[image_remove]="images"
_pyker_flags[image_rm]="--force --no-prune --help"
_pyker_asks[image_rm]="images"
_pyker_flags[image_save]="--output --help"
_pyker_valued[image_save]="--output -o"
_pyker_flags[image_tag]="--help"
_pyker_asks[image_tag]="images"
_pyker_flags[images]="--all --digests --filter --format --no-trunc --quiet --help"
_pyker_valued[images]="--filter --format -f"
_pyker_asks[images]="images"
_pyker_flags[import]="--change --message --platform --help"
_pyker_valued[import]="--change --message --platform -c -m"
_pyker_flags[info]="--format --help"
_pyker_valued[info]="--format -f"
_pyker_flags[inspect]="--format --size --type --help"
_pyker_valued[inspect]="--format --type -f"
_pyker_asks[inspect]="containers"
_pyker_flags[jobs]="--format --last --no-trunc --quiet --running --tree --help"
_pyker_valued[jobs]="--format --last --tree -n"
_pyker_flags[kill]="--signal --help"
_pyker_valued[kill]="--signal -s"
_pyker_asks[kill]="running"
_pyker_flags[load]="--input --quiet --help"
_pyker_valued[load]="--input -i"
_pyker_flags[login]="--password --password-stdin --username --help"
_pyker_valued[login]="--password --username -p -u"
_pyker_flags[logout]="--help"
_pyker_flags[logs]="--details --follow --since --tail --timestamps --until --help"
_pyker_valued[logs]="--since --tail --until -n"
_pyker_asks[logs]="containers"
_pyker_flags[network_inspect]="--format --verbose --help"
_pyker_valued[network_inspect]="--format -f"
_pyker_asks[network_inspect]="networks"
_pyker_flags[network_list]="--filter --format --no-trunc --quiet --help"
_pyker_valued[network_list]="--filter --format -f"
_pyker_flags[network_ls]="--filter --format --no-trunc --quiet --help"
_pyker_valued[network_ls]="--filter --format -f"
_pyker_flags[pause]="--help"
_pyker_asks[pause]="running"
_pyker_flags[port]="--help"
_pyker_asks[port]="running"
_pyker_flags[ps]="--all --filter --format --last --latest --no-trunc --quiet --size --help"
_pyker_valued[ps]="--filter --format --last -f -n"
_pyker_flags[pull]="--all-tags --platform --quiet --help"
_pyker_valued[pull]="--platform"
_pyker_flags[push]="--all-tags --platform --quiet --help"
_pyker_valued[push]="--platform"
_pyker_asks[push]="images"
_pyker_flags[rename]="--help"
_pyker_asks[rename]="containers"
_pyker_flags[restart]="--signal --timeout --help"
_pyker_valued[restart]="--signal --timeout -s -t"
_pyker_asks[restart]="running"
_pyker_flags[rm]="--force --link --volumes --help"
_pyker_asks[rm]="containers"
_pyker_flags[rmi]="--force --no-prune --help"
_pyker_asks[rmi]="images"
_pyker_flags[run]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --help --hostname --init --interactive --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all --pull --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --tty --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir --help"
_pyker_valued[run]="--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --hostname --ip --ip6 --ipc --kernel-memory --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir -a -c -e -h -l -m -p -u -v -w"
_pyker_asks[run]="images"
_pyker_flags[save]="--output --help"
_pyker_valued[save]="--output -o"
_pyker_flags[search]="--filter --format --limit --no-trunc --help"
_pyker_valued[search]="--filter --format --limit -f"
_pyker_flags[start]="--attach --detach-keys --interactive --help"
_pyker_valued[start]="--detach-keys"
_pyker_asks[start]="containers"
_pyker_flags[stop]="--signal --timeout --help"
_pyker_valued[stop]="--signal --timeout -s -t"
_pyker_asks[stop]="running"
_pyker_flags[system_events]="--filter --format --since --until --help"
_pyker_valued[system_events]="--filter --format --since --until -f"
_pyker_flags[system_info]="--format --help"
_pyker_valued[system_info]="--format -f"
_pyker_flags[tag]="--help"
_pyker_asks[tag]="images"
_pyker_flags[top]="--help"
_pyker_asks[top]="running"
_pyker_flags[unpause]="--help"
_pyker_asks[unpause]="running"
_pyker_flags[version]="--format --help"
_pyker_valued[version]="--format -f"
_pyker_flags[volume_create]="--driver --label --opt --help"
_pyker_valued[volume_create]="--driver --label --opt -d -o"
_pyker_flags[volume_inspect]="--format --help"
_pyker_valued[volume_inspect]="--format -f"
_pyker_flags[volume_list]="--filter --format --quiet --help"
_pyker_valued[volume_list]="--filter --format -f"
_pyker_flags[volume_ls]="--filter --format --quiet --help"
_pyker_valued[volume_ls]="--filter --format -f"
_pyker_flags[volume_prune]="--all --filter --force --help"
_pyker_valued[volume_prune]="--filter"
_pyker_flags[volume_remove]="--force --help"
_pyker_flags[volume_rm]="--force --help"
_pyker_flags[wait]="--help"
_pyker_asks[wait]="containers"

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
