# setup.sh - brings a bare Debian or Ubuntu machine to a built and registered kernel. Sourced by notebooks/run and
# tests/run, which set `program` to their own name first. Every step is safe to repeat, says in one line what it did,
# and ends the program with one line when it cannot go on. Nothing outside the clone is touched but system packages,
# the user's kernelspec and the user's cache of models.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_root=$root/.build
venv=$root/.venv
python=$venv/bin/python
model_dir=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/jaeda/models
build_packages=(build-essential cmake ninja-build pkg-config libzmq3-dev libjansson-dev libssl-dev libpcre2-dev
    libutf8proc-dev libsqlite3-dev libturbojpeg0-dev libpng-dev libwebp-dev libxxhash-dev libcurl4-openssl-dev uthash-dev
    python3 python3-venv ca-certificates)

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$program" "$*" >&2
    exit 1
}

# step NAME COMMAND...: runs it, its output in a log, its last line and the seconds on the terminal.
step() {
    local name=$1 log=$build_root/log/${1// /-}.log start=$SECONDS rc
    shift
    mkdir -p "$build_root/log" 2>/dev/null || die "cannot write into $build_root: is the disk full, or the clone another user's?"
    "$@" 2>&1 </dev/null | follow "$name" "$log"
    rc=${PIPESTATUS[0]}
    if [ "$rc" != 0 ]; then
        [ -z "${CI:-}" ] || tail -n 40 "$log"
        die "$name failed: $(cause "$log"). Log: ${log#"$root"/}"
    fi
    say "$name: done in $((SECONDS - start)) s"
}

# Copies what it reads into a log; shows a line a second on a terminal, one in twenty seconds elsewhere.
follow() {
    local name=$1 start=$SECONDS next=$SECONDS line last='' rc every=20
    [ -t 1 ] && every=1
    while :; do
        if IFS= read -r -t 1 line; then
            printf '%s\n' "$line"
            last=$line
        else
            rc=$?
            printf '%s' "$line" # what stands of an unfinished line, or of a last one without its end
            [ $rc -gt 128 ] || break
        fi
        if [ $SECONDS -ge $((next + (every > 1 ? every : 0))) ] && [ $SECONDS -gt $next ]; then
            next=$SECONDS
            if [ $every = 1 ]; then
                printf '\r\033[K%s: %d s  %.70s' "$name" $((SECONDS - start)) "$last" >&4
            else
                printf '%s: %d s  %.90s\n' "$name" $((SECONDS - start)) "$last" >&4
            fi
        fi
    done 4>&1 >"$log"
    [ $every != 1 ] || printf '\r\033[K'
}

# What a failed step's log says went wrong, and the way out; one line.
cause() {
    local log=$1 found
    if grep -qE 'No space left on device|Disk quota exceeded|not enough free space' "$log"; then
        echo "the disk is full; free some space (df -h) and run it again"
    elif grep -qiE 'could not resolve|temporary failure|name or service not known|network is unreachable|no route to host|connection (refused|timed out|reset)|connecttimeout|readtimeout|could not connect|failed to establish|proxyerror' "$log"; then
        echo "no network, or a proxy is not set; check the connection and run it again"
    elif found=$(grep -oE "(Unable to locate package|Package) '?[a-z0-9.+-]+'?( has no installation candidate)?" "$log" | head -n 1) && [ -n "$found" ]; then
        echo "apt says '$found'; on Ubuntu enable the universe component (add-apt-repository universe) and run it again"
    elif grep -qE 'a (terminal|password) is required|not in the sudoers|may not run sudo' "$log"; then
        echo "sudo did not let this user install packages; run it as root or with a user who may"
    elif grep -qE 'Could not get lock|Unable to acquire the dpkg' "$log"; then
        echo "another package manager holds the lock; wait for it and run it again"
    elif grep -qE 'No CMAKE_C_COMPILER|cc: not found|compiler identification is unknown' "$log"; then
        echo "no C compiler works here; install build-essential and run it again"
    elif found=$(grep -m 1 -E 'undefined reference|(^|[ :])([Ee]rror|ERROR)[: ]' "$log"); then
        printf '%.200s\n' "${found//$root\//}"
    else
        printf '%.200s\n' "$(grep -v '^[[:space:]]*$' "$log" | tail -n 1)"
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
    local installed package
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | awk '$2 == "installed" { print $1 }')
    for package; do
        grep -qxF "$package" <<<"$installed" || echo "$package"
    done
}

# Those of the packages that this system's apt knows.
known_packages() {
    local package
    for package; do
        [[ $(apt-cache policy "$package" 2>/dev/null) != *'Candidate: '[0-9]* ]] || echo "$package"
    done
}

apt_update() {
    # A source that does not answer must not stop what the others have; what is missing then, install names.
    as_root apt-get -q update || echo "some package lists could not be read"
}
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@"
}

may_install() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || die "no root and no sudo here: ask an administrator for: apt-get install $*"
    sudo -n true 2>/dev/null && return
    [ -t 0 ] || die "sudo needs a password and there is no terminal: run 'sudo -v' first, or: sudo apt-get install $*"
    say "system packages: sudo asks for your password to install $*"
    sudo -v || die "sudo did not let this user install packages; ask an administrator for: apt-get install $*"
}

# need_packages NAME PACKAGE...: installs those that are missing.
need_packages() {
    local name=$1 missing
    shift
    if ! command -v apt-get >/dev/null; then
        say "$name: this system has no apt; going on with what is there (needed: $*)"
        return
    fi
    mapfile -t missing < <(missing_packages "$@")
    if [ ${#missing[@]} = 0 ]; then
        say "$name: all there"
        return
    fi
    may_install "${missing[@]}"
    [ -n "${apt_updated:-}" ] || step "package lists" apt_update
    apt_updated=yes
    say "$name: installing ${missing[*]}"
    step "$name" apt_install "${missing[@]}"
}

# The system's own Python, which Debian's python3-venv belongs to, before whatever stands first in PATH.
system_python() {
    local p
    for p in /usr/bin/python3 python3; do
        if "$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$p"
            return
        fi
    done
    die "no Python 3.10 or newer with venv; install python3 and python3-venv and run it again"
}

make_venv() { # REQUIREMENTS PYTHON STAMP FRESH
    if [ "$4" = yes ]; then
        rm -rf "$venv"
        "$2" -m venv "$venv" || return
        # JupyterLab's question about news would be the first thing a newcomer sees.
        mkdir -p "$venv/etc/jupyter/labconfig"
        echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' \
            >"$venv/etc/jupyter/labconfig/page_config.json"
    fi
    "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off -r "$1" || return
    touch "$3"
}

# need_venv REQUIREMENTS: .venv holds what that file pins. The stamp knows the files' contents, the Python and the
# place, since a virtual environment works only where it was made.
need_venv() {
    local base stamp fresh=no where="$venv/.jaeda-place"
    base=$(system_python) || exit
    stamp=$venv/.jaeda-$(cat "$root/notebooks/requirements.txt" "$1" | sha256sum | cut -c 1-16)
    [ "$("$python" -V 2>/dev/null) $venv" = "$(cat "$where" 2>/dev/null)" ] || fresh=yes
    if [ $fresh = no ] && [ -e "$stamp" ]; then
        say "Python environment: all there (${venv#"$root"/})"
        return
    fi
    step "Python environment" make_venv "$1" "$base" "$stamp" $fresh
    printf '%s %s\n' "$("$python" -V)" "$venv" >"$where"
}

configure() { # DIR ARGUMENTS...
    local dir=$1
    shift
    rm -rf "$dir/CMakeCache.txt" "$dir/CMakeFiles"
    cmake -S "$root" -B "$dir" -G Ninja "$@"
}

# build NAME TARGET... -- CMAKE_ARGUMENT...: .build/NAME holds these targets, up to date.
build() {
    local name=$1 dir=$build_root/$1 targets=()
    shift
    while [ "$1" != -- ]; do
        targets+=("$1")
        shift
    done
    shift
    mkdir -p "$dir"
    if [ ! -e "$dir/build.ninja" ] || [ "$root $*" != "$(cat "$dir/.arguments" 2>/dev/null)" ]; then
        step "configure $name" configure "$dir" "$@"
        echo "$root $*" >"$dir/.arguments"
    fi
    step "build $name" ninja -C "$dir" "${targets[@]}"
}

# The user's kernelspec is this clone's kernel.
need_kernelspec() { # BINARY
    local installed
    installed=$("$python" -c 'from jupyter_core.paths import jupyter_data_dir as d; print(d())')/kernels/jaeda
    "$root/kernelspec/install" --stage "$build_root/kernelspec" "$1" || die "the disk is full, or $build_root is not writable"
    if diff -rq "$build_root/kernelspec" "$installed" >/dev/null 2>&1; then
        say "kernelspec: all there ($installed)"
    else
        step kernelspec env JAEDA_PYTHON="$python" "$root/kernelspec/install" "$1" --user
        say "kernelspec: $installed"
    fi
}

need_model() {
    local file=$model_dir/SmolLM2-135M-Instruct.Q4_1.gguf
    if "$python" "$root/kernelspec/get_model.py" --check "$model_dir"; then
        say "default model: all there ($file)"
    else
        say "default model: fetching SmolLM2-135M-Instruct (89 MiB, Apache-2.0)"
        step "default model" "$python" "$root/kernelspec/get_model.py" "$model_dir"
        say "default model: $file"
    fi
}
