//! `service-examples/worker-pool`: a thousand jobs, workers that come and go with them, and nobody who is not killed
//! meanwhile. Each job has its effect once.

#[path = "support/boot.rs"]
mod boot;

use boot::{Container, Image};
use std::path::Path;
use std::process::Command;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/service-examples/worker-pool");

/// Where the programs and the application are in the container.
const PROGRAMS: &str = "/opt/perennial/command";

fn boot() -> Option<Container> {
    if !Command::new("python3").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        println!("skipped: there is no python3");
        return None;
    }
    let image = Image::new()?
        .env(&format!("PATH={PROGRAMS}:/usr/bin:/bin"))
        .env("JOBS_LEASE=1")
        .env("JOBS_INTERVAL=200ms")
        .env("JOBS_IDLE=1s");
    let perennial = env!("CARGO_BIN_EXE_perennial");
    let image = image.setup(&format!(
        "mount -t tmpfs tmpfs /opt; mount -t tmpfs tmpfs /srv; cp -r {DIR}/app /opt/jobs
         {perennial} install --root /opt/perennial >/dev/null"
    ));
    let copied = Command::new("cp").args(["-r", &format!("{DIR}/etc/.")]).arg(image.etc()).status().unwrap();
    assert!(copied.success());
    Some(image.boot_program(Path::new("/opt/perennial/init"), &[]))
}

/// What a script prints that finds our programs and the container's variables.
fn shows(c: &Container, script: &str) -> String {
    c.shows(&format!("PATH={PROGRAMS}:$PATH; {script}"))
}

/// Waits until a script prints this.
fn wait(c: &Container, script: &str, text: &str) {
    c.wait_until(&format!("{script} prints {text:?}"), || shows(c, script) == text);
}

fn workers(pool: &str) -> String {
    format!("ls /run/service | grep -c {pool}@")
}

#[test]
fn a_thousand_jobs_each_once() {
    let Some(c) = boot() else { return };
    for pool in ["mail", "thumbnail"] {
        let ready = format!("svstat -o ready /run/service/{pool}@1 2>&1");
        wait(&c, &ready, "true\n");
    }
    shows(&c, "python3 /opt/jobs/jobs.py add mail 600; python3 /opt/jobs/jobs.py add thumbnail 400");
    c.wait_for("svpool mail: info: scaling up from 1 to 5 workers");
    c.wait_for("svpool thumbnail: info: scaling up from 3 to 5 workers");

    // Everybody in turn, while there is work.
    // -1, of one that is not up, would be everybody.
    let kill = |victim: &str| {
        shows(&c, &format!("pid=$(svstat -p /run/service/{victim}); [ $pid -le 1 ] || kill -9 $pid"))
    };
    for victim in ["mail@2", "thumbnail@3", "mail", "thumbnail", "mail@5"] {
        kill(victim);
    }
    let supervisor =
        "read -r line </proc/$(svstat -p /run/service/mail@1)/stat; set -- ${line##*) }; echo $2";
    let old = shows(&c, supervisor);
    shows(&c, &format!("kill -9 {old}"));
    let scanner = "for p in /proc/[0-9]*; do read -r line <$p/stat; case $line in *'(svscan)'*) \
                   echo ${p#/proc/}; break;; esac; done 2>/dev/null";
    let scanner = shows(&c, scanner);
    assert!(scanner.trim().parse::<u32>().is_ok(), "{scanner}");
    shows(&c, &format!("kill -9 {scanner}"));
    kill("mail@3");
    kill("thumbnail");

    wait(&c, "python3 /opt/jobs/jobs.py waiting mail; python3 /opt/jobs/jobs.py waiting thumbnail", "0\n0\n");
    let summary = shows(&c, "python3 /opt/jobs/jobs.py summary");
    assert!(summary.starts_with("mail done 600"), "{summary}");
    assert!(summary.contains("\nthumbnail done 400"), "{summary}");
    assert_eq!(shows(&c, "python3 /opt/jobs/jobs.py twice"), "none\n");

    for pool in ["mail", "thumbnail"] {
        wait(&c, &workers(pool), "1\n");
    }
    let shown = shows(&c, "svpool status");
    assert!(shown.starts_with("mail: 1 worker (1 to 5), 0 busy, metric 0\n"), "{shown}");
    c.stop().exits(0).says("svpool mail: info: stopping 1 worker").does_not_say("still busy");
}
