# Sourced by the scripts beside it: finds or installs Python, makes environments.
# What it makes lies in .tox/, which may be deleted at any time.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# sudo may ask for its password only where somebody can answer.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE...: false where there is no apt, no root, or no such package.
apt_install() {
    command -v apt-get >/dev/null || return 1
    say "Installing $* ..."
    as_root apt-get update -qq >/dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# The first Python that is new enough and can make environments.
search_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

find_python() {
    search_python && return
    # Ubuntu 22.04's own python3 is too old; it has a newer one beside it.
    apt_install python3 python3-venv && search_python && return
    apt_install python3.11 python3.11-venv && search_python && return
    fail "Python 3.11 or newer with its venv module is needed (found: $(python3 --version 2>/dev/null || echo none));" \
        "install it (Debian, Ubuntu: sudo apt-get install python3 python3-venv) and try again."
}

# make_environment FOLDER REQUIREMENT...: a virtual environment with these, made anew when the
# project's requirements changed or the checkout moved.
make_environment() {
    local folder=$1 python stamp
    shift
    python=$(find_python)
    stamp="$(cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum) $python $folder $*"
    if [[ -f $folder/stamp && $(<"$folder/stamp") == "$stamp" ]]; then
        return
    fi
    say "Setting up ${folder#"$root/"}; this takes a few minutes the first time ..."
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/constraints.txt" "$@"
    printf '%s' "$stamp" >"$folder/stamp"
}
