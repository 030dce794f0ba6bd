# What the examples of this directory share, for their programs `try`: boots an example with Perennial's /init as
# pid 1, and shows what a person would look at.
#
#     #!/bin/bash
#     . "$(dirname "$0")/../show.bash"
#     packages=("curl curl")            programs that it needs, each with the Debian packages that bring it
#     environment=(NAME=VALUE)          of the container
#     prepare() { ...; }                what else it needs, before there is a container
#     lay_out() { ...; }                its part of the root file system, which is the working directory then
#     tour() { ...; }                   what is shown, with the functions that come first here
#     after_stop() { ...; }             what is shown when the container has been stopped
#     main "$@"
#
# Every statement that is made is checked. Exit status: 0 all checks passed, 1 some did not, 2 the example could
# not be tried.
#
# What it does to this machine: as root it installs Debian packages that are missing; it builds, in the cargo
# target directory or, if that cannot be written, below ~/.cache/perennial. Everything else happens in
# namespaces of its own, on a root file system in memory that is gone with them, and nothing of the machine's
# can be written there.
#
# PERENNIAL=FILE boots that file, which is or is like what `cargo ship` makes; nothing is built then.
# shellcheck shell=bash

set -u
shopt -s extglob nullglob

EXAMPLES=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P) || exit 2
TOP=${EXAMPLES%/*}

# The example, as a directory.
example=$(cd "$(dirname "$0")" && pwd -P) || exit 2

# What an example may set.
packages=() environment=()
prepare() { :; }
lay_out() { :; }
after_stop() { :; }

# What the container's exit code is to be; what is said of its stop, and where it is left up.
exit_code=0 about_stopping='' about_staying=''

# The search path in the container; /opt/bin is where an example puts programs of its own.
CONTAINER_PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Programs for administrators are not on everybody's path, nor is a cargo that was just installed.
PATH=$PATH:/usr/sbin:/sbin:${HOME:-/nonexistent}/.cargo/bin

# How long a container may take to start to boot, and to stop, before it is killed. Seconds.
START_LIMIT=60
STOP_LIMIT=15

# ------------------------------------------------------------------------------------------ for a tour

# heading TEXT: the next part of it.
heading() {
    [[ $part == 0 ]] || still_there
    part=$((part + 1))
    apart
    printf '%s%d. %s%s\n' "$bold" "$part" "$1" "$plain"
    above=
}

# What follows would only fail, slowly.
still_there() {
    [[ $keeper ]] && gone || return
    check "the container lives" false
    log
    verdict
}

# An empty line below whatever was printed last.
apart() { [[ -z $above ]] || printf '\n'; }

# tell TEXT: what is about to be seen.
tell() {
    apart
    fold -s -w 92 <<<"$*" | sed 's/ *$//; s/^/   /'
    above=text
}

# fact NAME TEXT
fact() {
    [[ $above == fact ]] || apart
    printf '   %-16s %s\n' "$1" "$2"
    above=fact
}

# inside COMMAND...: runs it in the container, with the container's environment.
inside() { "${enter[@]}" "$@"; }

# run 'COMMAND LINE': shows it and what it prints, as somebody in the container sees it. Its exit status.
run() {
    apart
    printf '   %s# %s%s\n' "$bold" "$1" "$plain"
    above=output
    inside bash -c "$1" 2>&1 | sed 's/^/   /'
    return "${PIPESTATUS[0]}"
}

# check TEXT COMMAND...: TEXT is true if the command succeeds.
check() {
    local text=$1
    shift
    checks=$((checks + 1))
    [[ $above == check ]] || apart
    above=check
    if "$@"; then
        printf '   %sok%s    %s\n' "$green" "$plain" "$text"
    else
        failures+=("in part $part: $text")
        printf '   %sFAIL%s  %s\n' "$red" "$plain" "$text"
    fi
}

# same A B: for `check`; says what they are if they are not the same.
same() {
    [[ $1 == "$2" ]] || { printf '   %q is not %q\n' "$1" "$2" && false; }
}

# within SECONDS COMMAND...: waits until it succeeds, for so long at most.
within() {
    local until=$(($(now) + $1 * 1000))
    shift
    until "$@"; do
        (($(now) < until)) || return 1
        sleep 0.03
    done
}

# now: milliseconds. seconds MS: as text.
now() {
    local us=${EPOCHREALTIME//[.,]/}
    echo $((us / 1000))
}
seconds() { printf '%d.%02d s' $(($1 / 1000)) $(($1 % 1000 / 10)); }

# since_boot: milliseconds since /init was executed.
since_boot() { echo $(($(now) - $(<"$work/zero"))); }

# log: what the container has printed since this was called last; seconds since /init was executed in front.
log() {
    local from=$shown
    shown=$(lines)
    ((shown > from)) || return
    [[ $above == output ]] || apart
    above=log
    sed -n "$((from + 1)),${shown}s/^\([^|]*|\)/   $faint\1$plain/p" "$work/log"
}

# skip_log: what it has printed since then is not shown.
skip_log() { shown=$(lines); }

# lines: how many lines the container has printed.
lines() { wc -l <"$work/log"; }

# said PATTERN [FROM]: whether it has printed a line like this, after its first FROM lines.
said() { tail -n +$((${2:-0} + 1)) "$work/log" | grep -q -e "$1"; }

# comes_before A B: both were printed, A first.
comes_before() {
    local first second
    first=$(grep -n -m 1 -e "$1" "$work/log") second=$(grep -n -m 1 -e "$2" "$work/log")
    [[ $first && $second ]] && ((${first%%:*} < ${second%%:*}))
}

# pid SERVICE: its process id in the container.
pid() { inside s6-svstat -o pid "/run/service/$1"; }

# is_up SERVICE
is_up() { same "$(inside s6-svstat -o up "/run/service/$1")" true; }

# is_another SERVICE PID: it runs, and not as that process.
is_another() {
    local pid
    pid=$(pid "$1")
    [[ $pid != -1 && $pid != "$2" ]]
}

# pid_of_program NAME: the process id in the container of a program of ours.
pid_of_program() {
    inside bash -c '
        for stat in /proc/[0-9]*/stat; do
            { read -r line <$stat; } 2>/dev/null || continue
            [[ $line == *" ($0) "* ]] && echo "${line%% *}"
        done' "$1"
}

# ------------------------------------------------------------------------------------------ all of it

main() {
    if [[ ${1-} == --as-pid-1 ]]; then
        shift
        as_pid_1 "$@"
    fi
    stay=
    while (($#)); do
        case $1 in
            --stay) stay=yes ;;
            -h | --help) usage && exit ;;
            *) usage >&2 && exit 2 ;;
        esac
        shift
    done
    choose_colours
    above='' part=0 checks=0 failures=() shown=0 work='' keeper='' init=''
    printf '%sperennial: service-examples/%s%s\n' "$bold" "${example##*/}" "$plain"
    above=heading
    trap clean_up EXIT
    trap 'interrupted 130' INT
    trap 'interrupted 143' TERM HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/perennial-try.XXXXXX") || give_up "unable to make a directory in /tmp"
    have_packages
    have_perennial
    prepare
    choose_namespaces
    boot
    tour
    if [[ $stay ]]; then
        leave_up
    else
        stop
        after_stop
    fi
    verdict
}

usage() { echo "usage: $0 [ --stay ]"; }

choose_colours() {
    bold='' faint='' green='' red='' plain=''
    [[ -t 1 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]] || return
    bold=$'\e[1m' faint=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
}

interrupted() {
    printf '\ntry: interrupted: cleaning up\n' >&2
    exit "$1"
}

give_up() {
    printf 'try: %s\n' "$@" >&2
    exit 2
}

verdict() {
    local failure
    apart
    printf '%s%d of %d checks passed%s\n' "$bold" $((checks - ${#failures[@]})) "$checks" "$plain"
    ((${#failures[@]})) || exit 0
    for failure in "${failures[@]}"; do
        printf '   %sFAIL%s  %s\n' "$red" "$plain" "$failure"
    done
    exit 1
}

# ------------------------------------------------------------------------------------------ what is needed

# What `try` itself needs: a program and the packages that bring it. An example has more in `packages`.
own_packages=(
    "unshare util-linux" "nsenter util-linux" "pivot_root util-linux" "setpriv util-linux" "mount mount"
    "python3 python3"
)
# What is needed to build.
build_packages=("musl-gcc musl-tools" "cc gcc libc6-dev")
[[ ! ${PERENNIAL-} ]] || build_packages=()

have_packages() {
    local missing
    missing=$(missing_packages "${own_packages[@]}" "${packages[@]}" "${build_packages[@]}")
    if [[ -z $missing ]]; then
        fact packages "all there"
    elif ((EUID)); then
        fact packages "missing: $missing"
        fact "" "to have them: apt-get install --no-install-recommends $missing"
        missing=$(missing_packages "${own_packages[@]}" "${packages[@]}")
        [[ -z $missing ]] || give_up "without $missing this cannot be shown"
    elif ! command -v apt-get >/dev/null; then
        give_up "missing, and there is no apt-get to install it: $missing"
    else
        fact packages "installing $missing"
        # shellcheck disable=SC2086 # a list of words
        install_packages $missing || give_up "unable to install $missing"
    fi
}

missing_packages() {
    local need missing=
    for need; do
        PATH=$CONTAINER_PATH command -v "${need%% *}" >/dev/null || missing+=" ${need#* }"
    done
    [[ -z $missing ]] || printf '%s\n' $missing | sort -u | paste -sd ' '
}

# Installs, and starts nothing: a package with a service of its own must not run it on this machine.
install_packages() {
    local policy=/usr/sbin/policy-rc.d log=$work/apt made='' status=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=yes
        policy_made=$policy
    fi
    {
        apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    } >"$log" 2>&1 </dev/null || status=$?
    ((status)) && tail -n 20 "$log" >&2
    [[ $made ]] && rm -f $policy
    policy_made=
    [[ ! -d /run/systemd/system ]] || systemctl disable --quiet "${@/%/.service}" 2>/dev/null
    return $status
}

# Sets `perennial`: the file to install in the container.
have_perennial() {
    local target=${CARGO_TARGET_DIR:-$TOP/target} began file log=$work/cargo
    if [[ ${PERENNIAL-} ]]; then
        perennial=$(realpath -e "$PERENNIAL") || give_up "PERENNIAL is not a file: $PERENNIAL"
        fact perennial "$(shorter "$perennial"), as asked for"
        return
    fi
    local built=$target/x86_64-unknown-linux-gnu/release/perennial
    began=$(now)
    if ! command -v cargo >/dev/null || ! cargo --version >/dev/null 2>&1; then
        [[ -r $built ]] || give_up "cargo is not there (https://rustup.rs), and nothing was built before"
        perennial=$built
        fact perennial "$(shorter "$built"), built $(date -r "$built" '+%F %T'): cargo is not there"
        return
    fi
    if ! writable "$target"; then
        target=$(cache)/target
        built=$target/x86_64-unknown-linux-gnu/release/perennial
    fi
    file=$built
    [[ -e $file ]] || fact perennial "building, which takes a minute the first time"
    if PATH=$CONTAINER_PATH command -v musl-gcc >/dev/null; then
        (cd "$TOP" && CARGO_TARGET_DIR=$target cargo ship --quiet --bin perennial) >"$log" 2>&1
    else
        file=$target/release/perennial
        (cd "$TOP" && CARGO_TARGET_DIR=$target cargo build --release --quiet --bin perennial) >"$log" 2>&1
    fi || { tail -n 40 "$log" >&2 && give_up "unable to build (cargo ship, in $TOP)"; }
    perennial=$file
    fact perennial "$(shorter "$file"), $(($(stat -c %s "$file") / 1024)) KiB, $(seconds $(($(now) - began)))"
    [[ $file == "$built" ]] || fact "" "not the static file: for that musl-tools is needed"
}

# Whether cargo can write there.
writable() {
    local dir
    for dir in "$1/x86_64-unknown-linux-gnu/release" "$1"; do
        [[ -e $dir ]] && { [[ -w $dir ]]; return; }
    done
    [[ -w ${1%/*} ]]
}

# Where to keep what takes long to make. Without a home only until the end.
cache() {
    local dir
    for dir in "$TOP/target/try" "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/perennial"; do
        mkdir -p "$dir" 2>/dev/null && [[ -w $dir ]] && { echo "$dir"; return; }
    done
    mkdir -p "$work/cache" && echo "$work/cache"
}

# have_go_program NAME MODULE VERSION [ go install argument... ]: sets `found` to a program that Go builds of a
# module (the package is the last argument, or the module), once, or to nothing, having said why.
have_go_program() {
    local name=$1 module=$2 version=$3 dir file began
    shift 3
    (($#)) || set -- "$module"
    found=
    for dir in "$TOP/target/try" "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/perennial"; do
        file=$dir/$name-$version
        if [[ -x $file ]]; then
            found=$file
            fact "$name" "$(shorter "$file")"
            return
        fi
    done
    if ! command -v go >/dev/null && [[ -x /usr/local/go/bin/go ]]; then
        PATH=$PATH:/usr/local/go/bin
    fi
    if ! command -v go >/dev/null; then
        fact "$name" "Go is not there to install it (https://go.dev/dl)"
        return
    fi
    fact "$name" "go install $module at $version, which takes a minute or two"
    dir=$(cache) && mkdir -p "$work/go" && began=$(now)
    # In a module of our own that asks for exactly this version: `go install PACKAGE@VERSION` wants the list of
    # all versions besides, which not every module proxy gives.
    if (
        cd "$work/go" && rm -rf ./* && export GOBIN=$work/go CGO_ENABLED=${CGO_ENABLED:-0} GOFLAGS= GOWORK=off &&
            go mod init example/try && go mod edit -require "$module@$version" &&
            timeout 900 go install -mod=mod "$@" && mv "$name" "$dir/$name-$version"
    ) >"$work/go-log" 2>&1; then
        found=$dir/$name-$version
        fact "" "$(shorter "$found"), $(seconds $(($(now) - began)))"
    else
        tail -n 3 "$work/go-log" | sed 's/^/   /'
        fact "" "it could not be installed"
    fi
}

# put_volume DIR: a directory that outlives the container, until the end, as `$work/volume` here and DIR, below the
# new root file system, there.
put_volume() {
    mkdir -p "$work/volume" "$1"
    mount --bind "$work/volume" "$1"
}

# put_program FILE NAME: in the new root file system, on the search path.
put_program() {
    : >"opt/bin/$2"
    bind_read_only "$1" "opt/bin/$2"
}

# shorter PATH: as seen from the project.
shorter() { echo "${1#"$TOP"/}"; }

# ------------------------------------------------------------------------------------------ the container

# Sets `namespaces`, the options of unshare, and `as_user`: what an ordinary account has to do first.
choose_namespaces() {
    local all=(--mount --pid --uts --ipc --fork) why who
    as_user=()
    if ! unshare "${all[@]}" true 2>/dev/null; then
        as_user=(unshare --user --map-root-user)
        why=$("${as_user[@]}" unshare "${all[@]}" true 2>&1) || give_up \
            "this machine does not let us make namespaces: ${why##*$'\n'}" \
            "it works as root; for others with sysctl kernel.unprivileged_userns_clone=1 (Debian)," \
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), and in a container" \
            "if that was started with --privileged"
    fi
    namespaces=("${all[@]}")
    if "${as_user[@]}" unshare "${all[@]}" --net true 2>/dev/null; then
        namespaces+=(--net)
    else
        fact "" "this machine does not let us make a network namespace: the ports are the machine's own"
    fi
    who=root
    if ((${#as_user[@]})); then
        # id prints the number of an account without a name, and fails.
        who=$(id -un 2>/dev/null) || who="uid $EUID"
        who+=", root in a user namespace"
    fi
    why=${namespaces[*]#--}
    fact container "as $who, with namespaces for ${why/ fork/}"
}

# Starts the container, or another when it has ended. Sets `keeper`, the process that waits for pid 1, `init`,
# which is pid 1 as seen from here, and `enter`, the words that lead into it.
boot() {
    local guard=(setpriv --pdeathsig KILL)
    [[ $stay ]] && guard=()
    rm -f "$work"/{output,zero,init} && mkfifo "$work/output" && mkdir -p "$work/root" && : >"$work/log"
    shown=0
    keep_log <"$work/output" >/dev/null 2>&1 &
    TRY_UID=$EUID setsid "${as_user[@]}" "${guard[@]}" unshare "${namespaces[@]}" --kill-child \
        "$BASH" "$0" --as-pid-1 "$work" "$perennial" </dev/null >"$work/output" 2>&1 &
    keeper=$!
    within "$START_LIMIT" booting
    [[ -s $work/zero ]] || {
        log
        give_up "the container does not boot"
    }
    init=$(<"$work/init")
    enter=(nsenter --target "$init")
    ((${#as_user[@]})) && enter+=(--user --preserve-credentials)
    [[ " ${namespaces[*]} " == *' --net '* ]] && enter+=(--net)
    enter+=(--mount --pid --uts --ipc --root --wd /command/with-contenv)
}

booting() { [[ -s $work/zero ]] || ! kill -0 "$keeper" 2>/dev/null; }

# What as_pid_1 prints when /init is next.
MARK='-- /init --'

# Writes what the container prints to a file, with the seconds since /init was executed in front.
keep_log() {
    local line ms zero=0
    trap '' INT HUP TERM
    while IFS= read -r line || [[ -n $line ]]; do
        ms=${EPOCHREALTIME//[.,]/}
        ms=$((ms / 1000))
        if [[ $line == "$MARK" ]]; then
            zero=$ms
            echo "$ms" >"$work/zero"
            continue
        fi
        # Sequences that set a terminal's title, and then colours.
        while [[ $line =~ $'\e]'[^$'\a']*$'\a' || $line =~ $'\e['[0-9\;]*m ]]; do
            line=${line//"${BASH_REMATCH[0]}"/}
        done
        ((ms = zero ? ms - zero : 0))
        printf '%3d.%03d | %s\n' $((ms / 1000)) $((ms % 1000)) "${line//[[:cntrl:]]/ }"
    done >>"$work/log"
    # Where nobody is left to do it.
    kill -0 $$ 2>/dev/null || remove_work
}

# Makes the root file system and becomes /init. Runs as pid 1 of the new namespaces.
as_pid_1() {
    set -eE
    trap 'echo "try: unable to lay out the root file system (line $LINENO)"' ERR
    local work=$1 perennial=$2 root=$1/root init rest
    # This /proc still is the machine's.
    read -r init rest </proc/self/stat
    mount -t tmpfs -o mode=755 perennial "$root"
    cd "$root"
    mkdir -p dev/pts dev/shm etc home opt/bin proc root run srv sys tmp usr var/tmp
    chmod 1777 tmp var/tmp dev/shm
    ln -s /run var/run
    lay_out_system
    lay_out_devices
    "$perennial" install --root . --s6-names >/dev/null
    lay_out "$work"
    name_machine "${example##*/}"
    mount -t proc -o nosuid,nodev,noexec proc proc
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys 2>/dev/null || true
    echo "$init" >"$work/init"
    mkdir .machine
    pivot_root . .machine
    umount -l /.machine
    rmdir /.machine
    cd /
    echo "$MARK"
    exec env -i PATH="$CONTAINER_PATH" HOME=/root "${environment[@]}" /init
}

# The machine's programs, which cannot be written, and as much of /etc as they need.
lay_out_system() {
    local dir
    bind_read_only /usr usr
    for dir in /bin /sbin /lib /lib32 /lib64 /libx32; do
        if [[ -L $dir ]]; then
            cp -P "$dir" ".$dir"
        elif [[ -d $dir ]]; then
            mkdir ".$dir" && bind_read_only "$dir" ".$dir"
        fi
    done
    cp -RP /etc/ld.so.* etc/
    [[ ! -d /etc/alternatives ]] || cp -RP /etc/alternatives etc/
    [[ ! -e /etc/localtime ]] || cp -P /etc/localtime etc/
    printf '%s\n' root:x:0:0:root:/root:/bin/bash nobody:x:65534:65534:nobody:/:/usr/sbin/nologin >etc/passwd
    printf '%s\n' root:x:0: tty:x:5: nogroup:x:65534: >etc/group
    printf '%s\n' 'passwd: files' 'group: files' 'hosts: files' >etc/nsswitch.conf
}

# bind_read_only FROM TO: for an ordinary user it may have to stay as it is; he cannot write it anyway.
bind_read_only() {
    local flags
    mount --bind "$1" "$2" 2>/dev/null || mount --rbind "$1" "$2"
    # What the machine has restricted must stay so.
    flags=$(findmnt -no VFS-OPTIONS --target "$1" | tr , '\n' |
        grep -xE 'no(suid|dev|exec|atime|diratime)|relatime' | paste -sd ,) || true
    mount -o "remount,bind,ro${flags:+,$flags}" "$2" || ((TRY_UID))
}

lay_out_devices() {
    local device
    for device in null zero full random urandom tty; do
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin
    ln -s fd/1 dev/stdout
    ln -s fd/2 dev/stderr
}

# Its name, and its loopback interface up. In Python because ip and hostname need not be there.
name_machine() {
    printf '%s\n' "127.0.0.1 localhost $1" '::1 localhost' >etc/hosts
    python3 -c '
import fcntl, socket, struct, sys
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41
socket.sethostname(sys.argv[1])
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP_RUNNING))' "$1" ||
        echo "try: unable to set up the network"
}

# ------------------------------------------------------------------------------------------ the end

stop() {
    heading "Stop"
    tell "SIGTERM to pid 1, as docker stop sends it. $about_stopping"
    local began
    began=$(now)
    kill -TERM "$init"
    await_end
    log
    fact "exit code" "$code"
    fact "time" "$(seconds $(($(now) - began))) from the signal to the end of pid 1"
    check "the container ended with exit code $exit_code" same "$code" "$exit_code"
    check "it ended by itself, in time (docker stop gives it 10 s)" test $(($(now) - began)) -lt 10000
}

# await_end: waits for the end of the container, which has been brought about. Sets `code`.
await_end() {
    within "$STOP_LIMIT" gone || kill -KILL "$init"
    wait "$keeper"
    code=$?
    keeper=
    # Bash says of each whether a signal ended it.
    wait 2>/dev/null
}

gone() { ! kill -0 "$keeper" 2>/dev/null; }

leave_up() {
    heading "It stays up"
    fact enter "${enter[*]} env TERM=${TERM:-xterm} bash"
    [[ -z $about_staying ]] || fact there "$about_staying"
    fact stop "kill $init"
    fact log "$work/log, for as long as it lives"
    keeper='' work=''
}

# Ends what was started here, and only that.
clean_up() {
    trap '' INT TERM HUP
    if [[ -n $policy_made ]]; then rm -f "$policy_made"; fi
    if [[ -n $keeper ]] && kill -0 "$keeper" 2>/dev/null; then
        # Before it is /init, what is pid 1 there can only be killed.
        [[ -s $work/zero ]] && kill -TERM "$(<"$work/init")" 2>/dev/null && within 5 gone
        gone || kill -KILL "$keeper"
        wait
    fi
    [[ -z $work ]] || remove_work
}

# Not recursively where the container's root file system was.
remove_work() {
    rmdir "$work/root" 2>/dev/null
    rm -rf "$work/cache" "$work/go" "$work/volume"
    rm -f "$work"/{apt,browser,cargo,go-log,init,log,output,zero}
    rmdir "$work"
}

policy_made=
