#!/bin/sh
# What `pyker run pyker.local/hello` prints. The engine mounts the file below: what it did to get here, and how long it took.
steps=/run/pyker/steps.txt

address=$(ip -o -4 addr show dev eth0 2>/dev/null | sed -n 's/.*inet \([0-9.]*\).*/\1/p')

echo
echo "Hello! You are reading this from inside a container."
echo
echo "  It is process $$ here, on the host name $(hostname)${address:+, at the address $address}."
echo "  Its root file system has $(find / -xdev \( -type f -o -type l \) 2>/dev/null | wc -l) files: one busybox and the names of its commands."
echo
if [ -s "$steps" ]; then
  echo "What Pyker did, which part did it, and how long that took:"
  echo
  sed 's/^/  /' "$steps"
  echo
fi
echo "Try next:"
echo
echo "  pyker run --rm -it pyker.local/busybox       a shell in a machine that holds nothing else"
echo "  pyker run --rm -it host bash                 a copy of this machine that is gone when you leave it"
echo "  pyker run -d -p 8080:80 pyker.local/web      a web server, at http://127.0.0.1:8080"
echo "  pyker jobs                                   everything the engine did, as jobs with their times"
echo
