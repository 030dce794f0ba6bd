//! `PERENNIAL_LABELS`: whose line is it, in the output of a container.

#[path = "support/boot.rs"]
mod support;

use support::Image;

#[test]
fn every_line_has_the_name_of_its_service() {
    let Some(image) = Image::new() else { return };
    let image = image.env("PERENNIAL_LABELS=1");
    let image = image.longrun("web", "echo listening; echo oops >&2; exec sleep 1000", &[]);
    let image =
        image.longrun("db", "echo checkpoint; exec sleep 1000", &[]).file("db/log-label", "postgres\n");
    let container = image.boot(&[]);
    container.wait_for("web | listening\n");
    container.wait_for("web | oops\n");
    container.wait_for("postgres | checkpoint\n");
    let ended = container.stop();
    ended.exits(0).does_not_say("\nlistening").does_not_say("db | ");
}

#[test]
fn fields_and_standard_error_apart() {
    let Some(image) = Image::new() else { return };
    let image = image.env("PERENNIAL_LABELS=logfmt").env("PERENNIAL_LABELS_STDERR=0");
    let container = image.longrun("web", "echo a line; echo oops >&2; exec sleep 1000", &[]).boot(&[]);
    container.wait_for("service=web line=\"a line\"\n");
    container.wait_for("oops\n");
    container.stop().exits(0).does_not_say("line=oops");
}

#[test]
fn without_it_nothing_is_labelled() {
    let Some(image) = Image::new() else { return };
    let container = image.longrun("web", "echo listening; exec sleep 1000", &[]).boot(&[]);
    container.wait_for("listening\n");
    assert_eq!(container.shows("ls /run/service/web/log 2>/dev/null || echo none"), "none\n");
    container.stop().exits(0).does_not_say("web | ");
}

/// Loggers and supervisors are killed while a service counts: no line is missing and none is torn. (A line may come
/// twice: what went to the container's output cannot be taken back.)
#[test]
fn nothing_is_lost_when_everything_is_killed() {
    let Some(image) = Image::new() else { return };
    let count = "n=0; while [ $n -lt 400 ]; do echo number $n; n=$((n+1)); sleep 0.002; done; echo end; exec sleep 1000";
    let container = image.env("PERENNIAL_LABELS=1").longrun("counter", count, &[]).boot(&[]);
    for n in [50, 100, 150, 200, 250, 300] {
        container.wait_for(&format!("counter | number {n}\n"));
        let whom = if n % 100 == 0 { "supervise" } else { "svlog" };
        container.inside(&format!(
            "for p in /proc/[0-9]*; do read c <$p/comm && [ \"$c\" = {whom} ] && kill -9 ${{p#/proc/}}; done"
        ));
    }
    container.wait_for("counter | end\n");
    let said = container.said();
    let mut last = -1;
    for number in said.lines().filter_map(|line| line.strip_prefix("counter | number ")) {
        let number: i32 = number.parse().unwrap();
        assert!(number == last + 1 || number <= last, "{number} after {last}");
        last = last.max(number);
    }
    assert_eq!(last, 399);
    container.stop().exits(0);
}
