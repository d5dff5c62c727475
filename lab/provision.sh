#!/bin/sh
# Run by Vagrant, as root, in a box of any distribution: what Pyker and its tests need, and /opt/pyker with a Python that is
# new enough. PYKER_DRIVER is the graphdriver that the table promises, PYKER_CGROUP the cgroup mode.
set -eu

if command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq -y libnftables1 libseccomp2 nftables iproute2 busybox-static attr openssl strace apparmor \
    ca-certificates docker.io skopeo >/dev/null
  # A service of the box's own would use the firewall and the cgroups that tests look at.
  systemctl disable -q --now docker.service docker.socket containerd.service || true
  for package in docker-registry tini umoci python3.11-venv "linux-modules-extra-$(uname -r)"; do
    apt-get install -qq -y "$package" >/dev/null 2>&1 || echo "provision: this release has no $package"
  done
elif command -v dnf >/dev/null; then
  dnf install -q -y nftables libseccomp iproute attr openssl strace skopeo python3.11 tar
  for package in podman busybox tini iptables-nft; do
    dnf install -q -y "$package" >/dev/null 2>&1 || echo "provision: this release has no $package"
  done
else
  echo "provision: neither apt-get nor dnf; add what this distribution has to lab/provision.sh" >&2
  exit 1
fi

[ "$PYKER_DRIVER" = overlay2 ] && modprobe overlay
[ "$PYKER_DRIVER" = aufs ] && modprobe aufs
case $PYKER_CGROUP in
  v1) [ -d /sys/fs/cgroup/memory ] ;;
  v2) [ -e /sys/fs/cgroup/cgroup.controllers ] ;;
esac || { echo "provision: this box has not cgroup $PYKER_CGROUP" >&2; exit 1; }

if [ ! -x /opt/pyker/bin/python ]; then
  python=""
  for candidate in python3.13 python3.12 python3.11; do
    python=$(command -v $candidate) && break
  done
  if [ -n "$python" ]; then
    "$python" -m venv /opt/pyker
  else
    # Releases before Python 3.11: uv brings an interpreter.
    command -v pip3 >/dev/null || apt-get install -qq -y python3-pip >/dev/null
    pip3 install -q uv
    uv venv -q --python 3.11 --seed /opt/pyker
  fi
fi
cd /src
/opt/pyker/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
/opt/pyker/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
  --config-settings editable_mode=compat -e .
