# Sourced by the get-* scripts: puts pinned tools under .cache/tools, once for each pin.
# A tool is installed beside its place and moved there when whole, so that a broken or parallel
# fetch never leaves half a tool behind.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.cache/tools

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# need COMMAND WHAT-TO-DO
need() { command -v "$1" >/dev/null 2>&1 || die "\`$1\` is not installed; $2"; }

# fresh NAME PIN-FILE...: whether .cache/tools/NAME was made from exactly these pins.
fresh() {
  local name=$1
  shift
  [ -f "$tools/$name/.pins" ] && cat "$@" | cmp -s - "$tools/$name/.pins"
}

# place NAME STAGED PIN-FILE...: moves a finished tool to its place.
place() {
  local name=$1 staged=$2
  shift 2
  cat "$@" >"$staged/.pins"
  rm -rf "${tools:?}/$name"
  mv "$staged" "$tools/$name" 2>/dev/null || fresh "$name" "$@" || die "cannot place $tools/$name"
}

# get_npm NAME: installs dev/npm/NAME as locked there, without running any package's scripts.
# `install`, not `ci`: the lock of anvil names the binary package of the machine it was made on
# only, which `ci` refuses; versions and hashes of what is in the lock hold either way.
get_npm() {
  local name=$1 pins=$root/dev/npm/$1
  fresh "$name" "$pins/package.json" "$pins/package-lock.json" && return
  need npm "install Node.js 20 or newer"
  say "fetching $name into .cache/tools (npm)"
  mkdir -p "$tools"
  local staged
  staged=$(mktemp -d "$tools/.$name.XXXXXX")
  cp "$pins/package.json" "$pins/package-lock.json" "$staged/"
  npm install --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error --prefix "$staged" >&2 ||
    { rm -rf "$staged"; die "npm could not install $name; is the registry reachable?"; }
  place "$name" "$staged" "$pins/package.json" "$pins/package-lock.json"
}

# need_venv: makes `python3 -m venv` work, through apt-get where that is ours to do.
need_venv() {
  python3 -c 'import ensurepip, venv' >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing python3-venv (apt-get)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; } >&2 ||
      die "apt-get could not install python3-venv"
  else
    die "\`python3 -m venv\` does not work here; install it with: sudo apt-get install python3-venv"
  fi
}

# get_python NAME: makes .cache/tools/NAME a virtual environment with dev/python/NAME.txt in it.
get_python() {
  local name=$1 pins=$root/dev/python/$1.txt
  fresh "$name" "$pins" && "$tools/$name/bin/python" -c '' 2>/dev/null && return
  need_venv
  say "fetching $name into .cache/tools (pip)"
  mkdir -p "$tools"
  # A virtual environment holds its own path, so it is built where it stays; the pin comes last.
  rm -rf "${tools:?}/$name"
  python3 -m venv "$tools/$name" >&2 || die "python3 -m venv failed"
  "$tools/$name/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$pins" >&2 ||
    { rm -rf "${tools:?}/$name"; die "pip could not install $name; is the registry reachable?"; }
  cat "$pins" >"$tools/$name/.pins"
}
