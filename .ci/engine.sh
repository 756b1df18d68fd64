#!/usr/bin/env bash
# A container engine, a base image, wheels and a registry on a bare Debian machine.
#
#   source .ci/engine.sh        gives the functions below
#   bash .ci/engine.sh up DIR   starts everything under DIR, detached, and writes DIR/env (export lines)
#   bash .ci/engine.sh down DIR stops what `up` started there
#
# Everything lives under one directory; what was running before is used, and left running.

CORAL_BASE_TAG=coral-base:bookworm
ENGINE_STARTED=() # files with the ids of the processes that this shell started

engine_say() { printf 'engine: %s\n' "$*" >&2; }

# Install Debian packages that are missing: engine_packages COMMAND=PACKAGE…
engine_packages() {
  local pair wanted=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || wanted+=("${pair#*=}")
  done
  ((${#wanted[@]})) || return 0
  engine_say "apt-get install ${wanted[*]}"
  apt-get update -qq
  # A package's service must not start by itself: this script starts what it needs, and stops it again.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >&2
}

engine_reachable() { timeout 20 docker info >/dev/null 2>&1; }

engine_require_short() { # unix socket paths end at 107 characters
  ((${#1} < 100)) || { engine_say "the path $1 is too long for a socket; choose a shorter directory"; return 1; }
}

# Start dockerd under DIR unless an engine answers; sets DOCKER_HOST where it is ours.
engine_start() {
  local dir=$1 try
  engine_packages dockerd=docker.io docker=docker.io iptables=iptables
  if engine_reachable; then
    engine_say "using the engine that answers at ${DOCKER_HOST:-the default socket}"
    return 0
  fi
  engine_require_short "$dir/docker.sock"
  mkdir -p "$dir"
  export DOCKER_HOST="unix://$dir/docker.sock"
  if engine_reachable; then
    engine_say "using the engine under $dir"
    return 0
  fi
  rm -f "$dir/dockerd.pid" "$dir/docker.sock"
  setsid dockerd --data-root "$dir/root" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
    -H "unix://$dir/docker.sock" >"$dir/dockerd.log" 2>&1 </dev/null &
  ENGINE_STARTED+=("$dir/dockerd.pid")
  for try in $(seq 1 60); do
    if engine_reachable; then
      engine_say "dockerd runs under $dir"
      return 0
    fi
    sleep 0.5
  done
  engine_say "dockerd did not come up; the end of $dir/dockerd.log:"
  tail -n 20 "$dir/dockerd.log" >&2
  return 1
}

# A base image with Python, made from Debian packages: no image registry is needed.
engine_base_image() {
  local dir=$1 rootfs=$1/rootfs
  if docker image inspect "$CORAL_BASE_TAG" >/dev/null 2>&1; then
    return 0
  fi
  engine_packages debootstrap=debootstrap
  if [[ ! -e $dir/rootfs.complete ]]; then
    rm -rf "$rootfs"
    engine_say "debootstrap (about a minute)"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
      bookworm "$rootfs" >"$dir/debootstrap.log" 2>&1 || { tail -n 20 "$dir/debootstrap.log" >&2; return 1; }
    : >"$dir/rootfs.complete"
  fi
  tar -C "$rootfs" -c . | docker import - "$CORAL_BASE_TAG" >/dev/null
}

# The wheels that the Dockerfile pins, for containers that reach no package index.
engine_wheelhouse() {
  local dir=$1 python=$2 dockerfile=$3 pins
  pins=$(sed -n 's/^ARG REQUIREMENTS="\(.*\)"$/\1/p' "$dockerfile")
  [[ -n $pins ]] || { engine_say "$dockerfile pins nothing: no line ARG REQUIREMENTS=\"…\""; return 1; }
  if [[ -e $dir/wheels/.pins && $(<"$dir/wheels/.pins") == "$pins" ]]; then
    return 0
  fi
  rm -rf "$dir/wheels"
  mkdir -p "$dir/wheels"
  # shellcheck disable=SC2086  # the pins are words
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.11 --dest "$dir/wheels" $pins >&2
  printf '%s' "$pins" >"$dir/wheels/.pins"
}

# The wheels of the digits example, which an image of its own installs: engine_example_wheels DIR PYTHON REQUIREMENTS
engine_example_wheels() {
  local dir=$1 python=$2 requirements=$3
  if cmp -s "$requirements" "$dir/digits-wheels/.requirements"; then
    return 0
  fi
  rm -rf "$dir/digits-wheels"
  mkdir -p "$dir/digits-wheels"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.11 --dest "$dir/digits-wheels" --requirement "$requirements" >&2
  cp "$requirements" "$dir/digits-wheels/.requirements"
}

# A registry on loopback, so that tests have real digests; sets CORAL_TEST_REGISTRY.
engine_registry() {
  local dir=$1 python=$2 port try
  if [[ -e $dir/registry.port ]] && engine_registry_answers "$(<"$dir/registry.port")"; then
    export CORAL_TEST_REGISTRY="127.0.0.1:$(<"$dir/registry.port")"
    return 0
  fi
  engine_packages docker-registry=docker-registry
  port=$("$python" - <<'PY'
import socket

for port in (5000, 0):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(probe.getsockname()[1])
        break
PY
  )
  cat >"$dir/registry.yml" <<YAML
version: 0.1
log: {level: error}
http: {addr: "127.0.0.1:$port"}
storage: {filesystem: {rootdirectory: "$dir/registry"}, delete: {enabled: true}}
YAML
  setsid docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 </dev/null &
  printf '%s' "$!" >"$dir/registry.pid"
  printf '%s' "$port" >"$dir/registry.port"
  ENGINE_STARTED+=("$dir/registry.pid")
  for try in $(seq 1 40); do
    if engine_registry_answers "$port"; then
      export CORAL_TEST_REGISTRY="127.0.0.1:$port"
      return 0
    fi
    sleep 0.25
  done
  engine_say "the registry did not come up; see $dir/registry.log"
  return 1
}

engine_registry_answers() { timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$1" 2>/dev/null; }

# Stop the processes whose id files are named, and nothing else: engine_stop PIDFILE…
engine_stop() {
  local file pid try
  for file in "$@"; do
    [[ -s $file ]] || continue
    pid=$(<"$file")
    kill "$pid" 2>/dev/null || true
    for try in $(seq 1 60); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.25
    done
    rm -f "$file"
  done
}

# Everything at once: engine_up DIR PYTHON DOCKERFILE; exports what the tests read.
engine_up() {
  local dir=$1 python=$2 dockerfile=$3
  mkdir -p "$dir"
  engine_start "$dir"
  engine_write_env "$dir"
  engine_base_image "$dir"
  export CORAL_BASE_IMAGE=$CORAL_BASE_TAG
  engine_write_env "$dir"
  engine_wheelhouse "$dir" "$python" "$dockerfile"
  export CORAL_WHEELHOUSE="$dir/wheels"
  engine_example_wheels "$dir" "$python" "$(dirname "$dockerfile")/examples/digits/requirements.txt"
  export CORAL_TEST_DIGITS_WHEELS="$dir/digits-wheels"
  engine_write_env "$dir"
  engine_registry "$dir" "$python"
  engine_write_env "$dir"
}

engine_write_env() {
  local name
  # only what is set; an engine at the default socket needs no DOCKER_HOST
  for name in DOCKER_HOST CORAL_BASE_IMAGE CORAL_WHEELHOUSE CORAL_TEST_DIGITS_WHEELS CORAL_TEST_REGISTRY; do
    [[ -z ${!name:-} ]] || printf 'export %s=%q\n' "$name" "${!name}"
  done >"$1/env.new"
  mv "$1/env.new" "$1/env"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  here=$(cd "$(dirname "$0")/.." && pwd)
  case "${1:-} ${2:-}" in
    "up "?*) engine_up "$2" "${PYTHON:-$(command -v "$here/.venv/bin/python" || command -v python3)}" "$here/Dockerfile" ;;
    "down "?*) engine_stop "$2/registry.pid" "$2/dockerd.pid" ;;
    *) printf 'usage: %s up|down DIR\n' "$0" >&2; exit 2 ;;
  esac
fi
