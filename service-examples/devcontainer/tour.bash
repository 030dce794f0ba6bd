# What `../try devcontainer` needs, lays out and shows.

packages=("supervisord supervisor" "curl curl")
environment=(WORKSPACE=/workspace)

# Said where the container is stopped, and where it is left up.
about_stopping="supervisord takes its time: it looks at its programs once a second."
about_staying="svstat, rc status, curl -u dev:dev http://127.0.0.1:9001, process-compose attach"

# The version that the flags and messages in this example were tried with.
PROCESS_COMPOSE_VERSION=v1.85.0

# Sets PROCESS_COMPOSE to the program, or to nothing: then its service stays down.
prepare() {
    local there=(
        "$TOP/target/try/process-compose-$PROCESS_COMPOSE_VERSION"
        "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/perennial/process-compose-$PROCESS_COMPOSE_VERSION"
    )
    local file
    export PROCESS_COMPOSE=
    for file in "${there[@]}"; do
        if [[ -x $file ]]; then
            PROCESS_COMPOSE=$file
            fact process-compose "$(shorter "$file")"
            return
        fi
    done
    install_process_compose
}

# By go install, in a module of our own that asks for exactly this version: `go install PACKAGE@VERSION` wants
# the list of all versions besides, which not every module proxy gives.
install_process_compose() {
    local module=github.com/f1bonacc1/process-compose dir began
    local version=$module/src/config.Version=$PROCESS_COMPOSE_VERSION
    if ! command -v go >/dev/null && [[ -x /usr/local/go/bin/go ]]; then
        PATH=$PATH:/usr/local/go/bin
    fi
    if ! command -v go >/dev/null; then
        fact process-compose "Go is not there to install it (https://go.dev/dl): its service stays down"
        return
    fi
    fact process-compose "go install $module at $PROCESS_COMPOSE_VERSION, which takes a minute"
    dir=$(cache) && mkdir "$work/go" && began=$(now)
    if (
        cd "$work/go" && export GOBIN=$work/go CGO_ENABLED=0 GOFLAGS= GOWORK=off &&
            go mod init example/process-compose && go mod edit -require "$module@$PROCESS_COMPOSE_VERSION" &&
            timeout 900 go install -mod=mod -ldflags "-s -w -X $version" "$module" &&
            mv process-compose "$dir/process-compose-$PROCESS_COMPOSE_VERSION"
    ) >"$work/go-log" 2>&1; then
        PROCESS_COMPOSE=$dir/process-compose-$PROCESS_COMPOSE_VERSION
        fact "" "$(shorter "$PROCESS_COMPOSE"), $(seconds $(($(now) - began)))"
    else
        tail -n 3 "$work/go-log" | sed 's/^/   /'
        fact "" "it could not be installed: its service stays down"
    fi
}

# In the new root file system. The project is what a person mounts, everything else is the image's.
lay_out() {
    cp -r "$example/etc/." etc/
    mkdir -p opt/devcontainer workspace
    cp -r "$example/docker-entrypoint.sh" "$example/workloads" opt/devcontainer/
    cp -r "$example/workloads" workspace/
    if [[ $PROCESS_COMPOSE ]]; then
        : >opt/bin/process-compose
        bind_read_only "$PROCESS_COMPOSE" opt/bin/process-compose
    fi
}

# ------------------------------------------------------------------------------------------ what is shown

project=/workspace/workloads
seeds=/opt/devcontainer/workloads

tour() {
    show_boot
    show_dependencies
    show_status
    show_services
    show_restart
    show_death_of "supervise" "That is the parent of both services."
    show_death_of "svscan" "That is the parent of supervise."
    show_death_of "supervise svscan" "Both at once: of ours nothing but pid 1 is left for a moment."
    show_crashes
    show_broken_configuration
    show_missing_configuration
}

show_boot() {
    heading "The boot"
    tell "What the container prints, with the seconds since /init was executed as pid 1:" \
        "docker-entrypoint chooses the configurations, then both supervisors start."
    within 20 page_answers
    local ready
    ready=$(since_boot)
    within 5 page_shows clock migrate site
    log
    fact "ready after" "$(seconds "$ready"): the web page of supervisord answers"
    check "the entrypoint had ended when supervisord was started" \
        comes_before 'docker-entrypoint successfully started' 'supervisord: starting'
    check "... and when process-compose was started" \
        comes_before 'docker-entrypoint successfully started' 'process-compose: starting'
    check "supervisord runs the project's own configuration" runs supervisord "$project/supervisord/project.conf"
    [[ ! $PROCESS_COMPOSE ]] ||
        check "... and so does process-compose" runs process-compose "$project/process-compose/project.yaml"
}

# comes_before A B: both were printed, A first.
comes_before() {
    local first second
    first=$(grep -n -m 1 -e "$1" "$work/log") second=$(grep -n -m 1 -e "$2" "$work/log")
    [[ $first && $second ]] && ((${first%%:*} < ${second%%:*}))
}

# runs NAME FILE: that is the configuration that is linked into place.
runs() {
    local link=/run/workloads/supervisord.conf
    [[ $1 == supervisord ]] || link=/run/workloads/process-compose.yaml
    same "$(inside readlink -f "$link")" "$2"
}

show_dependencies() {
    heading "Who needs whom"
    run "rc graph"
    run "rc status"
}

show_status() {
    heading "The status table"
    run "svstat"
    local status=$?
    check "supervisord is up" is_up supervisord
    if [[ $PROCESS_COMPOSE ]]; then
        check "process-compose is up" is_up process-compose
        check "... and so svstat's exit status is 0" same $status 0
    else
        check "process-compose is not installed: it is down and nobody tries again" \
            same "$(inside s6-svstat -o up,wantedup /run/service/process-compose)" "false false"
    fi
    [[ -x /bin/ps ]] && run "ps -e -o pid,args --forest --cols 96"
}

is_up() { same "$(inside s6-svstat -o up "/run/service/$1")" true; }

show_services() {
    heading "What they serve"
    tell "The web page of supervisord on port 9001, user dev, password dev:"
    run "curl -s -u dev:dev http://127.0.0.1:9001/ | grep -o -e '<title>.*<' -e 'pid [0-9]*, uptime [0-9:]*'"
    check "the page answers" page_answers
    check "... not without the password" same "$(http_status http://127.0.0.1:9001/)" 401
    check "... and shows the three programs of the project" page_shows clock migrate site
    run "supervisorctl -c /run/workloads/supervisord.conf status"
    [[ $PROCESS_COMPOSE ]] || return
    tell "The API of process-compose on port 8080. (Its terminal UI: process-compose attach)"
    run "process-compose list -o wide"
    check "the API answers" same "$(http_status http://127.0.0.1:8080/live)" 200
    check "... and names the two processes of the project" api_names prepare worker
}

http_status() { inside curl -s -o /dev/null -m 5 -w '%{http_code}' "$@"; }

page() { inside curl -s -m 5 -u dev:dev http://127.0.0.1:9001/; }

page_answers() { [[ $(page) == *'<title>Supervisor Status</title>'* ]]; }

# page_shows PROGRAM...: it does, and none of them is still to be started.
page_shows() {
    local page name
    page=$(page)
    for name; do
        [[ $page == *"processname=$name\""* ]] || return
    done
    [[ $page != *'"statusstarting"'* && $page != *'Not started'* ]]
}

api_names() {
    local answer name
    answer=$(inside curl -s -m 5 http://127.0.0.1:8080/processes)
    for name; do
        [[ $answer == *"\"name\":\"$name\""* ]] || return
    done
}

show_restart() {
    heading "One is restarted"
    local before process_compose
    before=$(pid supervisord) process_compose=$(pid process-compose)
    run "s6-svc -t /run/service/supervisord"
    within 10 supervisord_is_another "$before"
    within 10 page_shows clock migrate site
    log
    run "svstat"
    check "supervisord has another pid (it was $before)" is_another supervisord "$before"
    check "process-compose has the same" same "$(pid process-compose)" "$process_compose"
    check "the page shows its programs again" page_shows clock migrate site
}

# is_another SERVICE PID: it runs, and not as that process.
is_another() {
    local pid
    pid=$(pid "$1")
    [[ $pid != -1 && $pid != "$2" ]]
}

# For waiting: supervisord looks for signals and dead programs once a second, and when somebody calls.
supervisord_is_another() {
    http_status http://127.0.0.1:9001/ >/dev/null
    is_another supervisord "$1"
}

# show_death_of 'PROGRAM...' TEXT: programs of ours are killed, and no service notices.
show_death_of() {
    local programs=$1 services program verb=is
    local -A victims=()
    [[ $programs == *' '* ]] && verb=are
    heading "${programs/ / and } $verb killed"
    tell "$2 What takes its place takes over what runs."
    services=$(pids)
    for program in $programs; do victims[$program]=$(pid_of_program "$program"); done
    run "kill -9 ${victims[*]}   # ${!victims[*]}"
    for program in $programs; do within 5 is_replaced "$program" "${victims[$program]}"; done
    run "svstat"
    for program in $programs; do
        check "there is another $program (pid $(pid_of_program "$program"))" \
            is_replaced "$program" "${victims[$program]}"
    done
    check "the services are the same processes as before" same "$(pids)" "$services"
    inside s6-svc -p /run/service/supervisord
    check "they obey: s6-svc -p pauses supervisord" within 2 is_paused true
    inside s6-svc -c /run/service/supervisord
    check "... and -c lets it go on" within 2 is_paused false
}

pids() { echo "supervisord $(pid supervisord) process-compose $(pid process-compose)"; }

is_paused() { [[ $(inside s6-svstat -o paused /run/service/supervisord) == "$1" ]]; }

is_replaced() {
    local pid
    pid=$(pid_of_program "$1")
    [[ $pid && $pid != "$2" ]] && inside s6-svstat /run/service/supervisord >/dev/null 2>&1
}

show_crashes() {
    heading "They crash"
    tell "supervisord is killed three times. Its programs survive that and would keep their ports from its" \
        "next life; the service's finish script ends them."
    local process_compose supervisord round from began
    process_compose=$(pid process-compose)
    for round in 1 2 3; do
        supervisord=$(pid supervisord) began=$(now) from=$(lines)
        run "kill -9 $supervisord   # supervisord"
        within 10 supervisord_is_another "$supervisord"
        within 10 page_shows clock migrate site
        [[ $round == 1 ]] && log || skip_log
        fact "back after" "$(seconds $(($(now) - began)))"
        check "supervisord was started again" is_another supervisord "$supervisord"
        check "... what it left was ended" said "supervisord left processes behind" "$from"
        check "... its web server could use its port again" within 3 site_answers
    done
    check "process-compose was not touched" same "$(pid process-compose)" "$process_compose"
    [[ $PROCESS_COMPOSE ]] || return
    supervisord=$(pid supervisord)
    run "kill -9 $process_compose   # process-compose"
    within 10 is_another process-compose "$process_compose"
    within 10 api_names worker
    log
    check "process-compose was started again" is_another process-compose "$process_compose"
    check "... and its API answers" api_names prepare worker
    check "supervisord was not touched" same "$(pid supervisord)" "$supervisord"
    run "svstat"
}

site_answers() { [[ $(http_status http://127.0.0.1:8000/) == 200 ]]; }

show_broken_configuration() {
    heading "A configuration is broken"
    tell "The project's file is spoiled and supervisord restarted. It runs the seed; the container says why."
    local file=$project/supervisord/project.conf before from
    before=$(pid supervisord) from=$(lines)
    run "sed -i.good 's/^autorestart = false/autorestart = perhaps/' $file"
    run "s6-svc -t /run/service/supervisord"
    within 10 supervisord_is_another "$before"
    within 10 page_shows this-is-the-seed
    log
    check "the warning names the file" said "file  *$file" "$from"
    check "... the reason" said "reason .*'perhaps' in section 'program:migrate'" "$from"
    check "... and the two steps to recover" names_two_steps supervisord "$from"
    check "the seed is in place" runs supervisord "$seeds/supervisord/seed.conf"
    check "the page is there and shows the seed's program" page_shows this-is-the-seed
    tell "The two steps:"
    before=$(pid supervisord)
    run "mv $file.good $file"
    run "s6-svc -t /run/service/supervisord"
    within 10 supervisord_is_another "$before"
    within 10 page_shows clock migrate site
    log
    check "the project's configuration is in place again" runs supervisord "$file"
    check "the page shows the project's programs again" page_shows clock migrate site
}

# names_two_steps NAME FROM
names_two_steps() { said "1. mend the file" "$2" && said "2. s6-svc -t /run/service/$1" "$2"; }

show_missing_configuration() {
    [[ $PROCESS_COMPOSE ]] || return
    heading "A configuration is missing"
    local file=$project/process-compose/project.yaml before supervisord from
    before=$(pid process-compose) supervisord=$(pid supervisord) from=$(lines)
    run "mv $file $file.away && s6-svc -t /run/service/process-compose"
    within 10 is_another process-compose "$before"
    within 10 api_names this-is-the-seed
    log
    check "the warning names the file" said "file  *$file" "$from"
    check "... the reason" said "reason  *there is no such file" "$from"
    check "... and the two steps to recover" names_two_steps process-compose "$from"
    check "the API is there and names the seed's process" api_names this-is-the-seed
    before=$(pid process-compose)
    run "mv $file.away $file && s6-svc -t /run/service/process-compose"
    within 10 is_another process-compose "$before"
    within 10 api_names prepare worker
    log
    check "the API names the project's processes again" api_names prepare worker
    check "supervisord was not touched" same "$(pid supervisord)" "$supervisord"
}
