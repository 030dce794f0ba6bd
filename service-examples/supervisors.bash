# What examples in which supervisord or process-compose run as a service share, for their programs `try`.
# shellcheck shell=bash

# The version that the flags and messages in the examples were tried with.
PROCESS_COMPOSE_VERSION=v1.85.0

# The web page of supervisord.
PAGE=http://127.0.0.1:9001/

# Who may see it: an example may set it.
page_user=dev page_password=dev

# have_process_compose: sets PROCESS_COMPOSE to the program, or to nothing: then its service stays down. Where CI is
# set there must be one.
have_process_compose() {
    local module=github.com/f1bonacc1/process-compose
    local version=$module/src/config.Version=$PROCESS_COMPOSE_VERSION
    have_go_program process-compose $module $PROCESS_COMPOSE_VERSION -ldflags "-s -w -X $version" $module
    [[ $found || -z ${CI-} ]] || give_up "without process-compose not all of this can be shown"
    export PROCESS_COMPOSE=$found
}

# lay_out_programs: puts it, and the eyes for the page, into the new root file system.
lay_out_programs() {
    local dir
    [[ ! $PROCESS_COMPOSE ]] || put_program "$PROCESS_COMPOSE" process-compose
    cp "$EXAMPLES/browser.py" opt/
    # What a browser reads.
    for dir in /etc/fonts /etc/chromium.d; do
        [[ ! -d $dir ]] || cp -RL "$dir" etc/
    done
}

http_status() { inside curl -s -o /dev/null -m 5 -w '%{http_code}' "$@"; }

page() { inside curl -s -m 5 -u "$page_user:$page_password" "$PAGE"; }

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

# api_names PROCESS...: the API of process-compose names them.
api_names() {
    local answer name
    answer=$(inside curl -s -m 5 http://127.0.0.1:8080/processes)
    for name; do
        [[ $answer == *"\"name\":\"$name\""* ]] || return
    done
}

# For waiting: supervisord looks for signals and dead programs once a second, and when somebody calls.
supervisord_is_another() {
    http_status "$PAGE" >/dev/null
    is_another supervisord "$1"
}

# ------------------------------------------------------------------------------------------ the page in a browser

# The commands that bring a browser, and the Debian packages to try if none is there: the second is larger, and
# there where the first is not.
browsers=(chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable)
browser_packages=(chromium-headless-shell chromium)

# have_browser: sets `browser` to its name, or to nothing, having said why. Where CI is set there must be one.
have_browser() {
    local name package began
    browser=
    find_browser && fact browser "$browser" && return
    if ((EUID)) || ! command -v apt-get >/dev/null; then
        no_browser "there is none (Debian: apt-get install ${browser_packages[0]})"
        return
    fi
    for package in "${browser_packages[@]}"; do
        fact browser "installing $package"
        began=$(now)
        install_packages "$package" && find_browser && fact "" "$browser, $(seconds $(($(now) - began)))" && return
    done
    no_browser "unable to install ${browser_packages[*]}: see above"
}

find_browser() {
    for browser in "${browsers[@]}"; do
        PATH=$CONTAINER_PATH command -v "$browser" >/dev/null && return
    done
    browser=
    return 1
}

# no_browser WHY
no_browser() {
    [[ -z ${CI-} ]] || give_up "the page is to be opened in a browser: $1"
    fact browser "$1: the page is not opened in one"
}

# show_page_in_browser PROGRAM OTHER...: opens the page as a person does, logs in, and restarts one.
show_page_in_browser() {
    local program=$1 supervisord name said=$work/browser status
    supervisord=$(pid supervisord)
    heading "The page in a browser"
    if [[ ! $browser ]]; then
        tell "There is no browser here."
        return
    fi
    tell "$browser, headless, driven as a person would: the page is opened without a password, with a wrong one" \
        "and with the right one, read, and \"Restart\" is clicked beside $program."
    run "python3 -B /opt/browser.py $PAGE $page_user $page_password $program" >"$said"
    status=$?
    cat "$said"
    log
    check "without the password nothing was shown" grep -q 'no password: 401' "$said"
    check "... nor with a wrong one" grep -q 'wrong password: 401' "$said"
    check "with it, the page was there" grep -q 'logged in: 200 Supervisor Status' "$said"
    for name; do
        check "... and showed $name" grep -q "^ *$name  " "$said"
    done
    check "$program was restarted, the others were not touched" same $status 0
    check "supervisord is the same process" same "$(pid supervisord)" "$supervisord"
}
