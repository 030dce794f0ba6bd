#!/command/with-contenv bash
# shellcheck shell=bash
# Chooses what the supervisors of this container run, and ends what they leave behind.
#
#   docker-entrypoint.sh                        at boot: all phases
#   docker-entrypoint.sh choose NAME            before each start: the configuration of one (`run` calls this)
#   docker-entrypoint.sh ended NAME CODE PGID   after each end: nothing of it stays behind (`finish` calls this)
#
# The project's own configuration is linked into place if it is valid. If it is missing or broken, a warning
# says so and the seed is linked. Whatever is wrong in here, the container comes up: no answer is waited for
# longer than the limit, and a failure leads to the seed. It may be run again at any time.

set -u

WORKSPACE=${WORKSPACE:-/workspace}       # the project
IMAGE=${BASH_SOURCE[0]%/*}               # the image's part, with the seeds
CHOSEN=/run/workloads                    # where the links are
VALIDATION_LIMIT=${VALIDATION_LIMIT:-5}  # seconds for finding out whether a configuration is valid

# With this exit code `run` and `finish` say that there is no point in trying again.
NOT_INSTALLED=125

# So long may what is left behind take to end, in tenths of a second; timeout-finish must be longer.
GRACE=100

main() {
    exec >&2
    case ${1-} in
        '') boot ;;
        choose) choose_before_start "$2" ;;
        ended) ended "$2" "$3" "$4" ;;
        *) say "usage: docker-entrypoint.sh [ choose name | ended name code pgid ]" && exit 100 ;;
    esac
}

say() { printf 'docker-entrypoint: %s\n' "$*"; }

# ------------------------------------------------------------------------------------------ at boot

boot() {
    say "phase 1 of 3: places"
    mkdir -p "$CHOSEN" && say "the project is in $WORKSPACE, links to what is chosen are in $CHOSEN"
    say "phase 2 of 3: supervisord"
    choose_at_boot supervisord
    say "phase 3 of 3: process-compose"
    choose_at_boot process-compose
    say "done"
}

# The first start comes at once and need not find out the same again.
choose_at_boot() {
    if is_installed "$1"; then
        choose "$1"
        echo "$EPOCHSECONDS" >"$CHOSEN/$1.chosen"
    else
        say "$1 is not installed"
    fi
    return 0
}

is_installed() { command -v "$1" >/dev/null; }

# ------------------------------------------------------------------------------------------ before a start

choose_before_start() {
    local name=$1 at
    if ! is_installed "$name"; then
        say "$name is not installed: it stays down (install it, then s6-svc -u /run/service/$name)"
        return $NOT_INSTALLED
    fi
    mkdir -p "$CHOSEN"
    { read -r at <"$CHOSEN/$name.chosen"; } 2>/dev/null || at=0
    rm -f "$CHOSEN/$name.chosen"
    ((EPOCHSECONDS - at < 10)) || choose "$name"
    return 0
}

# Links the project's configuration of $1, or the seed.
choose() {
    local name=$1 own seed link reason
    case $name in
        supervisord) own=project.conf seed=seed.conf link=supervisord.conf ;;
        process-compose) own=project.yaml seed=seed.yaml link=process-compose.yaml ;;
    esac
    own=$WORKSPACE/workloads/$name/$own seed=$IMAGE/workloads/$name/$seed link=$CHOSEN/$link
    if reason=$(why_invalid "$name" "$own"); then
        warn "$name" "$own" "$reason" "$seed"
        put_link "$seed" "$link"
    else
        put_link "$own" "$link" && say "$own is valid, $link leads to it"
    fi
}

warn() {
    say "################################################################################"
    say "WARNING: $1 does not run the project's configuration"
    say "  file     $2"
    say "  reason   $3"
    say "  instead  the seed, $4"
    say "To recover, two steps:"
    say "  1. mend the file"
    say "  2. s6-svc -t /run/service/$1"
    say "################################################################################"
}

# Puts a link to $1 at $2, in one step: at no moment there is none.
put_link() {
    ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2" && return
    say "WARNING: unable to link $2 to $1"
    return 1
}

# Prints why the configuration $2 of $1 is not valid; fails if it is.
why_invalid() {
    local name=$1 file=$2 said=$CHOSEN/$1.said code
    if [[ ! -e $file ]]; then
        echo "there is no such file"
        return
    elif [[ ! -f $file || ! -r $file ]]; then
        echo "it is not a file that can be read"
        return
    fi
    # Into a file: a pipe would be waited for until the last process has closed it.
    "validate_${name//-/_}" "$file" >"$said" 2>&1 </dev/null
    code=$?
    case $code in
        0) rm -f "$said" && return 1 ;;
        # From timeout: it has told the program to end, or killed it.
        124 | 137) echo "there was no answer within $VALIDATION_LIMIT s whether it is valid" ;;
        *) last_line "$said" "validation failed with exit code $code and said nothing" ;;
    esac
    rm -f "$said"
    return 0
}

# `supervisord -t` would start the daemon: its -t means --strip_ansi.
validate_supervisord() {
    limited "$(interpreter_of_supervisord)" -B "$IMAGE/workloads/supervisord/check.py" "$1"
}

# The Python that supervisord itself is run by: no other need have its package.
interpreter_of_supervisord() {
    local first=''
    { read -r first <"$(command -v supervisord)"; } 2>/dev/null
    first=${first#'#!'} first=${first# } first=${first%% *}
    if [[ ${first##*/} == python* && -x $first ]]; then echo "$first"; else echo python3; fi
}

# Reads and checks all of it, opens no port and starts nothing.
validate_process_compose() {
    limited process-compose --dry-run -t=false --log-file /dev/null --config "$1"
}

limited() { timeout -k 1 "$VALIDATION_LIMIT" "$@"; }

# The last line of file $1, or $2 if there is none. Without colours, and without the time and level that
# process-compose begins a line with.
last_line() {
    local line last=$2
    while IFS= read -r line || [[ $line ]]; do
        [[ $line == *[![:space:]]* ]] && last=$line
    done <"$1"
    while [[ $last =~ $'\e['[0-9\;]*m ]]; do last=${last//"${BASH_REMATCH[0]}"/}; done
    last=${last#[0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9:.]* }
    printf '%s\n' "${last#FTL }"
}

# ------------------------------------------------------------------------------------------ after an end

# $1 has ended with exit code $2 (256: by a signal); $3 was its process id. It led a session, and what it
# started is in that session. Told to end, it ends all of that. Killed, it leaves its programs behind, with the
# ports that they hold: its next life could not start its own. So whoever is left in the session is told to end,
# and killed if he does not.
ended() {
    local name=$1 code=$2 session=$3 left tries
    mapfile -t left < <(members "$session")
    if ((${#left[@]})); then
        say "$name left processes behind, ending them: ${left[*]}"
        kill -TERM "${left[@]}" 2>/dev/null
        for ((tries = 0; tries < GRACE && ${#left[@]}; tries++)); do
            sleep 0.1
            mapfile -t left < <(members "$session")
        done
        ((${#left[@]})) && say "killing ${left[*]}" && kill -KILL "${left[@]}" 2>/dev/null
    fi
    if ((code == NOT_INSTALLED)); then exit $NOT_INSTALLED; fi
    exit 0
}

# The process ids of those in session $1 that live.
members() {
    local session=$1 stat line state of
    [[ $session =~ ^[0-9]+$ ]] && ((session > 1)) || return
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        # "PID (NAME) STATE PARENT GROUP SESSION ...", and the name may contain anything.
        read -r state _ _ of _ <<<"${line##*) }"
        [[ $of == "$session" && $state != [ZX] ]] && echo "${line%% *}"
    done
}

main "$@"
