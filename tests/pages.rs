//! What the manual pages promise of whole trees: what children inherit, what a second supervisor does to the
//! first, what is said when time is up. Each test is a shell script in a PID and mount namespace of its own,
//! with an empty `/run`; what it leaves ends with the namespace. Where that is not allowed the tests say so
//! and pass.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const PERENNIAL: &str = env!("CARGO_BIN_EXE_perennial");

/// How `unshare` gets these namespaces here; `None`: it does not.
fn namespaces() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-fpm", "--kill-child"], &["-rfpm", "--kill-child"]];
    let works = |way: &&&[&str]| {
        let mount = ["sh", "-c", "mount -t proc proc /proc && mount -t tmpfs tmpfs /run"];
        let command = Command::new("unshare").args(**way).args(mount).stderr(Stdio::null()).status();
        command.is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(works).copied();
    if way.is_none() {
        println!("skipped: no PID and mount namespace can be had here");
    }
    way
}

/// What scripts begin with: a world.
const PRELUDE: &str = r#"
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/t
"$PERENNIAL" install --root /run/root >/run/install
PATH=/run/root/command:/usr/bin:/bin
printf '%s' "$FUNCTIONS" >/run/functions
. /run/functions
cd /run/t
"#;

/// Words to build in it with. Scripts that are run by others read them from `/run/functions`.
const FUNCTIONS: &str = r#"
# until_ COMMAND...: waits for a fact.
until_() {
    left=6000
    until "$@" 2>/dev/null; do
        left=$((left - 1))
        [ $left -gt 0 ] || { echo "waited in vain: $*"; ls -lR . >&2; exit 99; }
        sleep 0.01
    done
}
# script FILE LINE...: an executable shell script.
script() {
    file=$1; shift
    mkdir -p "$(dirname "$file")"
    { echo '#!/bin/sh'; printf '%s\n' "$@"; } >"$file"
    chmod 755 "$file"
}
# definition NAME TYPE: a service definition in the directory src.
definition() { mkdir -p "src/$1/dependencies.d"; echo "$2" >"src/$1/type"; }
# up DIR: waits until a service is up; its pid.
up() { until_ is_up "$1"; svstat -p "$1"; }
is_up() { [ "$(svstat -u "$1")" = true ]; }
# the NAME: the pid of the process of this name.
the() {
    for stat in /proc/[0-9]*/stat; do
        [ "$(cut -d' ' -f2 "$stat" 2>/dev/null)" != "($1)" ] || { stat=${stat%/stat}; echo "${stat#/proc/}"; }
    done
}
"#;

/// Runs a script; `None` where it cannot be.
fn run(script: &str) -> Option<Output> {
    let way = namespaces()?;
    let text = format!("{PRELUDE}\n{script}");
    let output = Command::new("unshare")
        .args(way)
        .args(["sh", "-c", &text])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("FUNCTIONS", FUNCTIONS)
        .env("PERENNIAL", Path::new(PERENNIAL))
        .stdin(Stdio::null())
        .output()
        .expect("unshare worked a moment ago");
    Some(output)
}

/// Runs a script that must succeed and print this.
fn prints(script: &str, expected: &str) {
    let Some(output) = run(script) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out == expected, "{}\n--- out\n{out}\n--- err\n{err}", output.status);
}

// ------------------------------------------------------------------------------------------------ limits

#[test]
fn children_of_svscan_get_the_limit_of_open_files_that_it_was_given() {
    let script = r#"
ulimit -Sn 777
script scan/a/run 'ulimit -n >limit' 'exec sleep 1000'
script scan/.s6-svscan/SIGUSR1 'ulimit -n >/run/t/script'
script scan/.s6-svscan/finish 'ulimit -n >/run/t/finish'
svscan scan & svscan=$!
until_ test -s scan/a/limit; cat scan/a/limit
kill -USR1 $svscan
until_ test -s script; cat script
# A successor is executed, not forked.
rm scan/a/limit
kill -9 "$(the supervise)"
until_ svc -k scan/a
until_ test -s scan/a/limit; cat scan/a/limit
kill $svscan; wait $svscan; cat finish
"#;
    prints(script, "777\n777\n777\n777\n");
}

#[test]
fn children_of_a_single_supervise_get_the_limit_of_open_files_that_it_was_given() {
    let script = r#"
ulimit -Sn 777
script a/run 'ulimit -n >limit' 'exec sleep 1000'
script a/finish 'ulimit -n >finished'
supervise a & supervise=$!
until_ test -s a/limit; cat a/limit
kill $supervise; wait $supervise; cat a/finished
"#;
    prints(script, "777\n777\n");
}

#[test]
fn children_of_init_get_the_limit_of_open_files_that_it_was_given() {
    let script = r#"
ulimit -Sn 777
definition one oneshot; echo /run/t/one >src/one/up
script one 'ulimit -n >/run/t/one.limit'
definition web longrun; touch src/web/dependencies.d/one
script src/web/run 'ulimit -n >/run/t/web.limit' 'exec sleep 1000'
script hook 'ulimit -n'
script command '. /run/functions' \
    'ulimit -n; cat one.limit; until_ test -s web.limit; cat web.limit' \
    'rm web.limit; kill -9 $(the svscan) $(the supervise)' \
    'until_ svc -k /run/service/web; until_ test -s web.limit; cat web.limit'
S6_STAGE2_HOOK=/run/t/hook S6_VERBOSITY=1 exec init -d /run/t/src ./command
"#;
    prints(script, "777\n777\n777\n777\n777\n");
}

// ------------------------------------------------------------------------------------------------ a second one

#[test]
fn a_second_supervise_touches_nothing_of_the_first() {
    let script = r#"
script a/run 'exec sleep 1000'
supervise a & first=$!
pid=$(up a)
cp a/supervise/journal before
touch mark
code=0; supervise a 2>said || code=$?
cat said; echo $code
cmp before a/supervise/journal && find a -newer mark
svc -wr -r a
until_ test "$(svstat -p a)" != "$pid"
pid=$(up a)
kill -9 $first; wait $first || :
supervise a &
until_ grep -q adopted=1 a/supervise/state
test "$(svstat -p a)" = "$pid" && echo adopted
"#;
    prints(
        script,
        "supervise a: fatal: unable to lock supervise/lock: another supervisor is at work\n100\nadopted\n",
    );
}

#[test]
fn a_second_svscan_touches_nothing_of_the_first() {
    let script = r#"
script scan/a/run 'exec sleep 1000'
svscan scan & first=$!
pid=$(up scan/a)
cp scan/.s6-svscan/journal before; touch mark
code=0; svscan scan 2>said || code=$?
cat said; echo $code
# The supervisor that svscan would start, and one of a service, refuse as well.
code=0; supervise --listen scan 2>said || code=$?
cat said; echo $code
code=0; supervise scan/a 2>said || code=$?
cat said; echo $code
cmp before scan/.s6-svscan/journal && find scan -newer mark
kill $first; wait $first
test -d /proc/$pid || echo ended
"#;
    prints(
        script,
        "svscan: fatal: unable to lock .s6-svscan/lock: another svscan is at work\n100\n\
         supervise: fatal: unable to lock .s6-svscan/supervise-lock: another supervisor is at work\n100\n\
         supervise scan/a: fatal: unable to lock supervise/lock: another supervisor is at work\n100\n\
         ended\n",
    );
}

// ------------------------------------------------------------------------------------------------ alone

#[test]
fn a_supervisor_sleeps_while_no_scanner_is_above_it() {
    let script = r#"
script scan/a/run 'exec sleep 1000'
svscan scan & svscan=$!
pid=$(up scan/a)
supervise=$(the supervise)
kill -9 $svscan; wait $svscan || :
switches() { grep ctxt /proc/$supervise/status; }
left=150
while before=$(switches); sleep 0.2; [ "$before" != "$(switches)" ]; do
    left=$((left - 1)); [ $left -gt 0 ] || { echo "it does not sleep"; exit 1; }
done
# It supervises all the same, and the next scanner finds it.
svc -wr -r scan/a; up scan/a >/dev/null
svscan scan & svscan=$!
until_ svscanctl scan
kill $svscan; wait $svscan
test -d /proc/$supervise || echo ended
"#;
    prints(script, "ended\n");
}

// ------------------------------------------------------------------------------------------------ rc

/// A live directory and a scanner; all paths relative.
const RC: &str = r#"
definition slow oneshot; echo 'sleep 1000' >src/slow/up
definition never longrun; echo 3 >src/never/notification-fd; script src/never/run 'exec sleep 1000'
definition web longrun; touch src/web/dependencies.d/slow src/web/dependencies.d/never
script src/web/run 'exec sleep 1000'
definition other longrun; script src/other/run 'exec sleep 1000'
mkdir scan; svscan scan & until_ svscanctl scan
rc compile db src
rc -l live init -c db scan
# try COMMAND...: what it says, without times, and its code.
try() { code=0; "$@" >said 2>&1 || code=$?; sed 's/ ([0-9.]* m\{0,1\}s)//' said; echo $code; }
"#;

#[test]
fn paths_may_be_relative() {
    let script = format!(
        r#"{RC}
definition quick oneshot; echo 'true' >src/quick/up
rc compile db2 src; rc -l live2 -p b- init -c db2 scan
try rc -l live2 -j 1 up other quick
mkdir -p only/quick; cp src/quick/* only/quick 2>/dev/null || :
S6_VERBOSITY=0 exec init -d only true
"#
    );
    prints(&script, "other is up\nquick is up\n0\n");
}

#[test]
fn rc_says_what_was_under_way_when_the_time_was_up() {
    let script = format!(
        r#"{RC}
rc -l live up other >/dev/null
try rc -l live -t 300 up web other
try rc -l live -t 300ms -j 1 up never slow
try rc -l live list --up
definition late oneshot; echo 'sleep 1000' >src/late/up; echo 300 >src/late/timeout-up
rc compile db2 src; rc -l live2 -p b- init -c db2 scan
try rc -l live2 up late
"#
    );
    prints(
        &script,
        "rc: warning: the time is up; under way: never slow; not begun: web\n2\n\
         rc: warning: the time is up; under way: never; not begun: slow\n2\n\
         other\n0\n\
         rc: warning: unable to start late: timed out\n1\n",
    );
}

#[test]
fn init_says_what_was_under_way_when_the_time_was_up() {
    let script = r#"
definition slow oneshot; echo 'sleep 1000' >src/slow/up
export S6_CMD_WAIT_FOR_SERVICES_MAXTIME=300 S6_BEHAVIOUR_IF_STAGE2_FAILS=2 S6_VERBOSITY=1
code=0; init -d src true 2>said || code=$?
sed 's/ ([0-9].*)/ (TIME)/' said; echo $code
"#;
    prints(
        script,
        "s6-rc: warning: unable to start service slow: timed out (TIME)\n\
         init: warning: stopping: the boot failed\n2\n",
    );
}

#[test]
fn rc_tells_how_it_is_used() {
    let script = format!(
        r#"{RC}
for option in -h --help; do
    rc $option >said
    for word in check up down restart reload apply change list status deps graph why blame critical plot compile init; do
        grep -qw "$word" said || echo "no $word"
    done
done
for wrong in '' -x frob up down compile init 'init scan'; do
    code=0; rc $wrong 2>said || code=$?
    echo "$code $(head -n 1 said)"
done
rc -l live up other >/dev/null
rc -l live list -a; rc -l live list --up never other
"#
    );
    let usage = "100 rc: fatal: usage: rc check [ --root image ] [ --layer ] [ source... ]\n".repeat(8);
    prints(&script, &format!("{usage}other\nother\n"));
}

// ------------------------------------------------------------------------------------------------ svstat

#[test]
fn svstat_says_why_there_is_no_table() {
    let script = r#"
try() { code=0; "$@" 2>&1 || code=$?; echo $code; }
cat >expected <<'END'
svstat: fatal: unable to check scan/a/supervise/lock: Permission denied (and 1 service more)
111
name
a     up
svstat: fatal: unable to check scan/b/supervise/lock: Permission denied
111
svstat: fatal: unable to list scan: Permission denied
111
END
mkdir empty scan
try svstat
try svstat -S nowhere
try svstat -S empty
mkdir -p plain/d; try svstat -S plain
svscan scan & until_ svscanctl scan
try svstat -S scan
try svstat -S scan --json
script scan/a/run 'exec sleep 1000'; script scan/b/run 'exec sleep 1000'
svscanctl -a scan; up scan/a >/dev/null; up scan/b >/dev/null
# As somebody else, who may see less and less.
other() { setpriv --reuid 1000 --clear-groups "$@"; }
if [ "$(other id -u 2>/dev/null)" = 1000 ]; then
    try other svstat -S scan
    chmod 711 scan/a/supervise
    try other svstat -S scan | sed 's/^\(name\|a  *up\) .*/\1/'
    chmod 700 scan
    try other svstat -S scan
else
    cat /run/t/expected
fi
"#;
    prints(
        script,
        "svstat: fatal: unable to open /run/service: No such file or directory (-S says where else to look)\n111\n\
         svstat: fatal: unable to open nowhere: No such file or directory\n111\n\
         svstat: fatal: empty is no scan directory: there is no .s6-svscan in it, and nothing in it is supervised\n100\n\
         svstat: fatal: plain is no scan directory: there is no .s6-svscan in it, and nothing in it is supervised\n100\n\
         svstat: info: there are no services in scan\n0\n\
         []\n0\n\
         svstat: fatal: unable to check scan/a/supervise/lock: Permission denied (and 1 service more)\n111\n\
         name\na     up\n\
         svstat: fatal: unable to check scan/b/supervise/lock: Permission denied\n111\n\
         svstat: fatal: unable to list scan: Permission denied\n111\n",
    );
}

// ------------------------------------------------------------------------------------------------ init

/// Definitions in the places that s6-overlay has for them: `etc` is mounted over `/etc`.
const ETC: &str = r#"
say() { definition "$1" oneshot; echo "echo $1" >"src/$1/up"; mkdir -p "$2"; cp -r "src/$1" "$2/"; }
bundle() { mkdir -p "$1/user/contents.d"; echo bundle >"$1/user/type"; touch "$1/user/contents.d/$2"; }
say plain etc/s6-overlay/s6-rc.d
say chosen etc/s6-overlay/s6-rc.d
say profiled etc/cont-profile.d/night/s6-overlay/s6-rc.d
bundle etc/s6-overlay/user-bundles.d plain
bundle etc/cont-profile.d/night/s6-overlay/user-bundles.d profiled
bundle bundles chosen
mount --bind etc /etc
export S6_VERBOSITY=1
"#;

#[test]
fn variables_say_where_init_reads_definitions() {
    let script = format!(
        r#"{ETC}
init true
S6_RUNTIME_PROFILE=night init true
S6_RUNTIME_BUNDLEDIR=/run/t/bundles init true
S6_RUNTIME_BUNDLEDIR=/run/t/bundles S6_KEEP_ENV=1 init true
S6_RUNTIME_PROFILE=day S6_RUNTIME_BUNDLEDIR=/nowhere init echo none 2>&1
# The hook may change its mind.
script hook 'echo night >/run/s6/container_environment/S6_RUNTIME_PROFILE'
S6_RUNTIME_PROFILE=day S6_STAGE2_HOOK=/run/t/hook init true
S6_RUNTIME_PROFILE=night rc check
"#
    );
    prints(
        &script,
        "plain\nprofiled\nchosen\nchosen\n\
         init: warning: there is no directory /etc/cont-profile.d/day/s6-overlay/s6-rc.d: nothing is read from it\n\
         init: warning: there is no directory /nowhere: nothing is read from it\n\
         none\nprofiled\n\
         0 longruns, 1 oneshot, 1 bundle: 0 errors, 0 warnings\n",
    );
}

#[test]
fn a_finish_script_ends_the_container_with_the_code_of_its_service() {
    let script = r#"
definition web longrun
script src/web/run 'echo started >>/run/t/starts; sleep 1.2; eval "$(cat /run/t/end)"'
script src/web/finish 'test "$1" = 256 && code=$((128 + $2)) || code=$1' \
    'echo "$code" >/run/s6-linux-init-container-results/exitcode' 'exec /run/s6/basedir/bin/halt'
# It is stopped before web, and that takes its time.
definition slow longrun; touch src/slow/dependencies.d/web
script src/slow/run 'trap "sleep 0.3; exit 0" TERM; while :; do sleep 0.1; done'
for end in 'exit 7' 'kill -9 $$'; do
    echo "$end" >end; : >starts
    code=0; S6_VERBOSITY=1 init -d src || code=$?
    echo "$code $(wc -l <starts)"
done
"#;
    prints(script, "7 1\n137 1\n");
}

// ------------------------------------------------------------------------------------------------ copies

#[test]
fn a_copy_of_a_supervised_directory_is_another_service() {
    let script = r#"
script a/run 'cd /; exec sleep 1000'
supervise a & up a >/dev/null
cp -a a b; supervise b & up b >/dev/null
script scan/x/run 'cd /; exec sleep 1000'
svscan scan & svscan=$!
up scan/x >/dev/null
cp -a scan other; svscan other & until_ svscanctl other; up other/x >/dev/null
cp -a scan/x scan/.y; mv scan/.y scan/y
until_ svok scan/y; up scan/y >/dev/null
# Once it is adopted it is no supervisor's child any more.
for pid in $(the supervise); do
    [ "$(cut -d' ' -f4 "/proc/$pid/stat")" != $svscan ] || kill -9 "$pid"
done
until_ grep -q adopted=1 scan/x/supervise/state
cp -a scan/x scan/.z; mv scan/.z scan/z
until_ svok scan/z; up scan/z >/dev/null
for service in a b scan/x scan/y scan/z other/x; do svstat -p $service; done | sort | uniq | wc -l
"#;
    prints(script, "6\n");
}

// ------------------------------------------------------------------------------------------------ the pages

#[test]
fn every_page_that_another_refers_to_is_there() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let references = text.lines().filter_map(|line| line.split_once("Xr ")).map(|(_, rest)| rest);
        for reference in references {
            let mut words = reference.split(' ');
            let (Some(name), Some(section)) = (words.next(), words.next()) else { continue };
            // Sections 1 to 3 are the system's.
            let ours = section.starts_with(['5', '7', '8']);
            let file = dir.join(format!("{name}.{section}"));
            assert!(!ours || file.exists(), "{}: there is no {name}({section})", page.display());
        }
    }
}

/// Each line of the list of defects names tests that are there, or says why there are none; no number is missing.
#[test]
fn every_known_defect_has_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("tests/DEFECTS")).unwrap();
    let mut numbers = Vec::new();
    for line in list.lines().filter(|line| line.contains(" | ")) {
        let [number, _, tests] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        numbers.push(number);
        for test in tests.split("; ") {
            let (file, name) = test.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            if file == "none" || file.starts_with("untried") {
                continue;
            }
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(text.contains(name), "{number}: there is no {name} in {file}");
        }
    }
    let known = (1..=12).map(|n| format!("S{n:02}")).chain((1..=118).map(|n| format!("A{n:03}")));
    assert_eq!(numbers, known.collect::<Vec<_>>());
}
