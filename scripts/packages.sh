# Debian packages: installed when this user may, else the command to type. Sourced by the other scripts.

need_packages() {
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Please install with your system's package manager: $*" >&2
    return 1
  fi
  as_root=""
  if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then
      as_root="sudo"
    else
      echo "Please run this once, then try again:" >&2
      echo "    sudo apt-get install -y $*" >&2
      return 1
    fi
  fi
  echo "Installing with apt-get: $*" >&2
  $as_root apt-get -qq update >/dev/null || true
  $as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >/dev/null
}
