//! What `rc` shows of services that run, wait, fail: in containers with real ones.

#[path = "support/boot.rs"]
mod support;

use support::{Container, Image};

const SLEEP: &str = "exec sleep 1000";

/// Numbers, which differ from run to run, as `#`; and units with them.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut words = text.split_inclusive(char::is_whitespace).peekable();
    while let Some(word) = words.next() {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        let unit = words.peek().map_or("", |next| next.trim_end_matches([',', ':', ';', '\n', ' ']));
        if is_number && ["ms", "s", "min"].contains(&unit) {
            let next = words.next().unwrap_or_default();
            out.push_str("TIME");
            out.push_str(next.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
        } else {
            out.push_str(word);
        }
    }
    out
}

/// The lines of rc that are left on a terminal when it is over.
fn what_stays(seen: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in seen.lines().filter(|line| !line.starts_with("Script ")) {
        let mut rest = line;
        while let Some((up, after)) = rest.strip_prefix("\x1b[").and_then(|text| text.split_once("A\x1b[J")) {
            lines.truncate(lines.len() - up.parse::<usize>().unwrap());
            rest = after;
        }
        lines.push(rest.to_owned());
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// A boot in which `mount` waits until somebody opens its gate, `bad` fails, and others depend on them.
fn gated() -> Option<Container> {
    let image = Image::new()?.setup("mkfifo /run/gate; ");
    let image = image.oneshot("mount", "read -r line </run/gate", &[]).longrun("db", SLEEP, &["mount"]);
    let image = image.longrun("web", SLEEP, &["db"]).oneshot("bad", "exit 127", &[]);
    let image = image.oneshot("shop", "true", &["bad"]).file("shop/wants.d/web", "");
    Some(image.boot(&[]))
}

#[test]
fn while_a_boot_goes_on_it_is_told_who_waits_for_whom() {
    let Some(container) = gated() else { return };
    container.wait_for("unable to start service bad");
    container
        .wait_until("mount is seen to start", || container.shows("rc status mount").contains(" starting "));
    let status = container.shows("rc status");
    let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("mount").contains(" starting "), "{status}");
    assert!(line("db").contains(" waiting ") && line("db").ends_with("  for mount"), "{status}");
    assert!(line("web").contains(" waiting ") && line("web").ends_with("  for db"), "{status}");
    assert!(line("bad").contains(" failed ") && line("bad").ends_with("  exit 127"), "{status}");
    let why = masked(&container.shows("rc why web"));
    assert_eq!(
        why,
        "web (longrun) waits for others to be up\n\
         \x20 wanted     wanted by shop\n\
         \x20            in bundle user\n\
         \x20 blocked    it needs db, which needs mount: starting\n\
         \x20 log        none of its own: its output goes where the supervisor's goes\n"
    );
    assert!(container.shows("rc critical").contains("no change that brought services up is over yet"));
    container.inside("echo >/run/gate");
    container.wait_until("all is over", || container.shows("rc blame").contains("web"));
    let why = masked(&container.shows("rc why shop"));
    assert_eq!(
        why,
        "shop (oneshot) was not started, because others are not up\n\
         \x20 wanted     in bundle user\n\
         \x20 blocked    it needs bad: failed, exit 127 (a program was not found)\n"
    );
    let why = container.shows("rc why bad");
    assert!(why.starts_with("bad (oneshot) failed to come up\n"), "{why}");
    assert!(why.contains("\n  last exit  exit 127 (a program was not found)\n"), "{why}");
    assert!(container.shows("rc status shop").contains("blocked"));
    container.stop();
}

#[test]
fn what_a_boot_took_is_shown() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("mount", "sleep 0.1", &[]).longrun(
        "db",
        "sleep 0.2; echo >&3; exec sleep 1000",
        &["mount"],
    );
    let image =
        image.file("db/notification-fd", "3").longrun("web", SLEEP, &["db"]).longrun("alone", SLEEP, &[]);
    let container = image.boot(&[]);
    container.wait_for("4 services up in ");
    let blame = container.shows("rc blame");
    let services: Vec<&str> = blame.lines().skip(1).filter_map(|l| l.split_whitespace().last()).collect();
    assert_eq!(services.len(), 4, "{blame}");
    assert!(["db", "mount"].iter().all(|name| services[..2].contains(name)), "{blame}");
    let critical = container.shows("rc critical");
    let chain: Vec<&str> = critical.lines().skip(2).filter_map(|l| l.split_whitespace().last()).collect();
    assert_eq!(chain, ["mount", "db", "web"], "{critical}");
    assert!(critical.starts_with("4 services up in "), "{critical}");
    let plot = container.shows("rc plot");
    assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"), "{plot}");
    assert!(plot.contains("Critical chain: mount → db → web"), "{plot}");
    assert_eq!(
        container.shows("rc deps web"),
        "service  edge            state\nmount    through others  up\ndb       needs           up\n"
    );
    assert_eq!(
        container.shows("rc deps -r --json db"),
        "[{\"name\":\"web\",\"edge\":\"needs\",\"state\":\"up\"}]\n"
    );
    let graph = container.shows("rc graph --svg web");
    assert!(graph.contains("3 services and what must be up before"), "{graph}");
    assert!(graph.contains("class=\"box good\""), "{graph}");
    assert!(container.shows("rc graph --dot web").contains("\t\"web\" -> \"db\" [style=solid]\n"));
    let json = container.shows("rc status --json db");
    for part in ["\"state\":\"up\",\"up\":true,\"pid\":", "\"waits_for\":[]", "\"needs\":[\"mount\"]"] {
        assert!(json.contains(part), "{json}");
    }
    // Started again, it belongs to another change.
    container.inside("rc down web && rc up web");
    assert!(container.shows("rc plot").contains("1 service was started again later and is not shown."));
    assert!(container.shows("rc plot web").contains(">1 service up in "));
    container.inside("rc down web");
    let why = masked(&container.shows("rc why web"));
    assert!(why.starts_with("web (longrun) is down: it was taken down TIME ago\n"), "{why}");
    container.stop();
}

#[test]
fn why_has_the_last_lines_of_the_log() {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("web", "echo begins; echo ends; exec sleep 1000", &["dir"]);
    let image = image.oneshot("dir", "mkdir -p /run/log", &[]);
    let image = image.longrun(
        "web-log",
        "exec 9>/run/log/lock >>/run/log/current; while read -r line; do echo \"$line\"; done",
        &["dir"],
    );
    let image = image.file("web/producer-for", "web-log").file("web-log/consumer-for", "web");
    let container = image.boot(&[]);
    container.wait_for("3 services up in ");
    container.inside("until grep -q ends /run/log/current; do sleep 0.01; done");
    container.inside("echo '@400000000000002500000000 earlier' >>/run/log/current");
    let why = container.shows("rc why web web-log");
    assert!(why.contains("\n  log        /run/log, by web-log\n             | "), "{why}");
    assert!(why.contains(" ago: earlier\n"), "{why}");
    assert!(why.contains("\nweb-log (longrun) is up for "), "{why}");
    container.stop();
}

#[test]
fn on_a_terminal_it_is_seen_what_a_change_waits_for() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("mount", "read -r line </run/gate", &[]).longrun("web", SLEEP, &["mount"]);
    let container =
        image.setup("mkfifo /run/gate; ").file("user/contents.d/none", "").file("none/type", "bundle");
    let container = container.file("none/contents.d/alone", "").longrun("alone", SLEEP, &[]).boot(&[]);
    container.wait_for("service mount: starting");
    container.inside("echo >/run/gate");
    container.wait_for("3 services up in ");
    container.inside("rc down mount");
    // What rc prints to a terminal, and what stays of it.
    let up = "TERM=xterm script -qfec 'rc up web' /run/seen >/run/other & \
        until grep -qs 'of 2 done' /run/seen; do sleep 0.01; done; echo >/run/gate; wait; cat /run/seen";
    let seen = container.shows(up).replace('\r', "");
    assert!(
        seen.contains("\n  mount  starts, 0 s; for it waits web\n  0 of 2 done, 1 waiting; 0 s\n"),
        "{seen}"
    );
    let kept = what_stays(&seen);
    assert!(kept[0].starts_with("mount is up (") && kept[1].starts_with("web is up ("), "{kept:?}");
    assert_eq!(kept.len(), 2, "{kept:?}");
    // The same in a pipe.
    let piped = container.shows("rc down web; rc up web | cat");
    assert!(piped.starts_with("web is down (") && piped.contains("\nweb is up ("), "{piped}");
    assert_eq!(piped.lines().count(), 2, "{piped}");
    container.stop();
}

#[test]
fn of_what_failed_it_is_said_how_and_when_it_is_tried_again() {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("flap", "exit 127", &[]).longrun("late", SLEEP, &[]);
    let image = image.file("late/notification-fd", "3").file("late/timeout-up", "200");
    let container = image.longrun("after-late", SLEEP, &["late"]).boot(&[]);
    container.wait_for("unable to start service late");
    container.wait_until("flap waits for its next start", || {
        let json = container.shows("rc status --json flap");
        json.contains("\"state\":\"waiting\"") && !json.contains("\"retry_seconds\":null")
    });
    container.wait_until("it says so", || {
        let why = masked(&container.shows("rc why flap"));
        why.starts_with("flap (longrun) died, and is started again\n")
            && why.contains("\n  last exit  exit 127 (a program was not found)")
            && why.contains("\n  next try   in TIME\n")
    });
    container.wait_until("the boot is over", || container.shows("rc blame").contains("timed-out"));
    let why = masked(&container.shows("rc why late after-late"));
    assert!(why.contains("late (longrun) was given up: it was not up within TIME\n"), "{why}");
    assert!(why.contains("  blocked    it needs late: failed, not up within TIME\n"), "{why}");
    container.stop();
}
