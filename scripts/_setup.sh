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

# A window on a virtual screen, drawn in software.
window_packages=(
    xvfb xauth libgl1 libegl1 libglx-mesa0 libegl-mesa0 libgl1-mesa-dri libglib2.0-0 libdbus-1-3
    libfontconfig1 libfreetype6 libx11-6 libx11-xcb1 libxkbcommon0 libxkbcommon-x11-0 libxcb1
    libxcb-cursor0 libxcb-glx0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
    libxcb-render0 libxcb-render-util0 libxcb-shape0 libxcb-shm0 libxcb-sync1 libxcb-util1
    libxcb-xfixes0 libxcb-xkb1 fonts-dejavu-core
)

missing_packages() {
    local package
    for package in "${window_packages[@]}"; do
        # Since 2024, Debian and Ubuntu give some of them the suffix t64.
        dpkg-query -W -f '${db:Status-Abbrev}\n' "$package" "${package}t64" 2>/dev/null |
            grep -q '^ii' || printf '%s ' "$package"
    done
}

# find_screen ELSE: sets `screen` to what gives a command a virtual screen; ELSE says what else helps.
find_screen() {
    local missing
    if command -v dpkg-query >/dev/null; then
        read -ra missing <<<"$(missing_packages)"
        if [[ ${#missing[@]} -gt 0 ]] && ! apt_install "${missing[@]}"; then
            fail "A window needs these packages: ${missing[*]}; install them (sudo apt-get install ...), $1"
        fi
    fi
    command -v xvfb-run >/dev/null || fail "A window needs xvfb-run; install it, $1"
    screen=(xvfb-run -a -s "-screen 0 1600x1000x24")
}
