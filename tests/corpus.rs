//! Service trees of public images, with stub programs in the place of theirs: each is checked, all of it is
//! started in a container, and taken down again.
//!
//! `corpus/trees.json` holds the structure of some: names, types, edges, which files there are, and oneshots'
//! command lines. `PERENNIAL_CORPUS=FILE` tries those of another file of the same form as well. Words on the
//! command line choose trees whose names contain one of them.
//!
//! What each tree is put together from: an image's own definitions over those of the image it is built from,
//! if that one is among the trees. What is referred to and defined by an image that is not becomes a oneshot
//! that does nothing.
//!
//! Trees of service directories without dependencies (s6, runit, the older s6-overlay) are put into a scan
//! directory.

#[path = "support/boot.rs"]
mod boot;
#[path = "support/mod.rs"]
mod support;

use boot::{DEFINITIONS, Image};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use support::Programs;
use support::runner::{self, Scenario};

const KEPT: &str = include_str!("corpus/trees.json");

/// Bundles and services that `init` brings itself.
const BUILT_IN: [&str; 6] = ["base", "user", "user2", "legacy-services", "legacy-cont-init", "fix-attrs"];

/// A service that runs until it is told to end.
const SLEEPER: &str = "#!/bin/sh\nexec sleep 100000\n";

/// What is done in a container with dependencies. `$1`: the programs.
const LIFE: &str = r#"
PATH=$1:/usr/bin:/bin
all=$(rc list)
# shellcheck disable=SC2086
[ -z "$all" ] || rc -t 120s up $all >/run/up || exit 11
for i in 1 2 3 4 5 6 7 8 9; do [ "$(rc list --up)" = "$all" ] || sleep 0.1; done; [ "$(rc list --up)" = "$all" ] || { rc status; exit 12; }
rc status --json >/run/json && rc graph --svg >/run/svg || exit 13
[ -z "$all" ] || rc plot >/run/plot || exit 14
# shellcheck disable=SC2086
[ -z "$all" ] || rc -t 120s -D change $all >/run/down || exit 15
for i in 1 2 3 4 5 6 7 8 9; do [ -z "$(rc list --up)" ] || sleep 0.1; done; [ -z "$(rc list --up)" ] || { rc status; exit 16; }
set -- $all
echo "started and stopped: $#"
"#;

/// The same with service directories in a scan directory. `$2`: where they are.
const SCAN: &str = r#"
PATH=$1:/usr/bin:/bin
cp -R "$2"/. /run/service && svscanctl -a /run/service || exit 21
cd /run/service
for name in *; do
    until svstat "$name"; do sleep 0.01; done >/run/stat 2>&1
done
svwait -u -t 60000 * || { svstat; exit 22; }
svc -wD -T 60000 -d * || { svstat; exit 23; }
set -- *
echo "started and stopped: $#"
"#;

/// One tree of the file.
struct Tree {
    id: String,
    family: String,
    repo: String,
    from: Vec<String>,
    services: Value,
}

/// A service, its layers put together.
#[derive(Default)]
struct Service {
    fields: BTreeMap<String, Value>,
    needs: BTreeSet<String>,
    contents: BTreeSet<String>,
}

fn main() -> ExitCode {
    let mut trees = read(KEPT, "kept");
    if let Ok(path) = std::env::var("PERENNIAL_CORPUS") {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        trees.extend(read(&text, "more"));
    }
    if Image::new().is_none() {
        return ExitCode::SUCCESS;
    }
    let cases = trees.iter().map(|tree| {
        let all = &trees;
        Scenario::new(tree.id.clone(), move || live(tree, all))
    });
    let cases: Vec<Scenario<'_>> = cases.collect();
    runner::run("corpus", &cases, || {
        Programs::link(env!("CARGO_BIN_EXE_perennial"), runner::shared_dir().join("programs"), "");
    })
}

fn read(text: &str, which: &str) -> Vec<Tree> {
    let file: Value = serde_json::from_str(text).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tree = |(number, tree): (usize, &Value)| Tree {
        id: format!("{which} {number} {} {}", text(&tree["repo"]), text(&tree["label"])).replace('/', " "),
        family: text(&tree["family"]),
        repo: text(&tree["repo"]),
        from: tree["from"].as_array().into_iter().flatten().map(text).collect(),
        services: tree["services"].clone(),
    };
    file["trees"].as_array().expect("trees").iter().enumerate().map(tree).collect()
}

/// The images that a tree is built on, lowest first: of each only its first tree, and of several one.
fn layers<'a>(tree: &'a Tree, trees: &'a [Tree], depth: usize) -> Vec<&'a Tree> {
    let base = tree.from.iter().find_map(|image| {
        let name = image.split(['@', ':']).next()?;
        let mut parts = name.rsplit('/');
        let (image, owner) = (parts.next()?, parts.next()?);
        let is_its = |other: &&Tree| {
            other.family == "v3"
                && other.repo != tree.repo
                && other
                    .repo
                    .strip_prefix(owner)
                    .and_then(|rest| rest.strip_prefix('/'))
                    .is_some_and(|repo| repo == image || repo.strip_prefix("docker-") == Some(image))
        };
        trees.iter().find(is_its)
    });
    let mut all = match base {
        Some(base) if depth < 8 => layers(base, trees, depth + 1),
        _ => Vec::new(),
    };
    all.push(tree);
    all
}

/// Puts the layers together, by file, as they are in the image.
fn compose(layers: &[&Tree]) -> BTreeMap<String, Service> {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    for (name, fields) in layers.iter().flat_map(|tree| tree.services.as_object().into_iter().flatten()) {
        let service = services.entry(name.clone()).or_default();
        service.needs.extend(names(&fields["deps"]));
        service.contents.extend(names(&fields["contents"]));
        for (key, value) in fields.as_object().into_iter().flatten() {
            match (key.as_str(), service.fields.get_mut("files")) {
                ("files", Some(Value::Array(files))) => {
                    files.extend(value.as_array().cloned().unwrap_or_default())
                }
                ("deps" | "contents", _) => {}
                _ if value.is_null() => {}
                _ => drop(service.fields.insert(key.clone(), value.clone())),
            }
        }
    }
    services
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// What is referred to and not there: an image that we do not have defines it.
fn supply(services: &mut BTreeMap<String, Service>) -> usize {
    let pipelines: BTreeSet<String> =
        services.values().filter_map(|s| Some(s.text("pipeline_name")?.trim().to_owned())).collect();
    let refers = |s: &Service| {
        let lists = ["producer_for", "consumer_for"].map(|key| s.text(key).unwrap_or_default().to_owned());
        let piped: Vec<String> = lists
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        assert!(piped.iter().all(|name| services.contains_key(name)), "half of a pipeline: {piped:?}");
        s.needs.iter().chain(&s.contents).cloned().collect::<Vec<_>>()
    };
    let mut wanted: BTreeSet<String> = services.values().flat_map(refers).collect();
    let has_no_type = |(_, s): &(&String, &Service)| !s.fields.contains_key("type");
    wanted.extend(services.iter().filter(has_no_type).map(|(name, _)| name.clone()));
    let mut count = 0;
    for name in wanted {
        if BUILT_IN.contains(&&*name) || pipelines.contains(&name) {
            continue;
        }
        let service = services.entry(name).or_default();
        if !service.fields.contains_key("type") {
            let kind = match () {
                () if service.has("run") => "longrun",
                () if !service.contents.is_empty() => "bundle",
                () => "oneshot",
            };
            service.fields.insert("type".to_owned(), kind.into());
            count += 1;
        }
    }
    count
}

impl Service {
    fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    fn has(&self, file: &str) -> bool {
        self.fields.get("files").is_some_and(|files| names(files).iter().any(|name| name == file))
    }

    fn is(&self, kind: &str) -> bool {
        self.text("type") == Some(kind)
    }

    /// Writes its definition. `real`: with the oneshots' own command lines.
    fn write(&self, dir: &Path, real: bool) {
        let put = |file: &str, text: &str| {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir_all(dir).unwrap();
        let kind = self.text("type_raw").or(self.text("type"));
        kind.into_iter().for_each(|kind| put("type", kind));
        self.needs.iter().for_each(|need| put(&format!("dependencies.d/{need}"), ""));
        self.contents.iter().for_each(|member| put(&format!("contents.d/{member}"), ""));
        if self.is("bundle") {
            fs::create_dir_all(dir.join("contents.d")).unwrap();
        }
        for (key, file) in [
            ("notification_fd", "notification-fd"),
            ("producer_for", "producer-for"),
            ("consumer_for", "consumer-for"),
            ("pipeline_name", "pipeline-name"),
            ("timeout_kill", "timeout-kill"),
            ("timeout_finish", "timeout-finish"),
            ("down_signal", "down-signal"),
        ] {
            self.text(key).into_iter().for_each(|text| put(file, text));
        }
        for file in ["flag-essential", "flag-recommended"] {
            if self.has(file) {
                put(file, "");
            }
        }
        if self.is("oneshot") {
            for file in ["up", "down"] {
                let stub = if file == "up" || self.has(file) { Some("/bin/true\n") } else { None };
                let own = self.text(file).filter(|_| real);
                own.or(stub).into_iter().for_each(|text| put(file, text));
            }
            return;
        }
        if self.is("longrun") {
            let ready = self.text("notification_fd").map(|fd| format!("echo >/proc/self/fd/{}\n", fd.trim()));
            put("run", &SLEEPER.replacen("exec", &format!("{}exec", ready.unwrap_or_default()), 1));
            if self.has("finish") {
                put("finish", "#!/bin/sh\nexit 0\n");
            }
            if self.has("data/check") {
                put("data/check", "#!/bin/sh\nexit 0\n");
            }
        }
    }
}

/// Checks a tree, starts it and takes it down.
fn live(tree: &Tree, trees: &[Tree]) {
    let programs = runner::shared_dir().join("programs");
    let programs = programs.to_str().unwrap();
    let mut services = compose(&layers(tree, trees, 0));
    let dir = std::env::current_dir().unwrap().join("definitions");
    if !["v3", "s6rc-native"].contains(&&*tree.family) {
        for (name, service) in &mut services {
            service.fields.insert("type".to_owned(), "longrun".into());
            service.write(&dir.join(name.replace('/', "-")), false);
        }
        let image = Image::new().expect("there was one a moment ago");
        let ended = image.boot(&["sh", "-c", SCAN, "sh", programs, dir.to_str().unwrap()]).end();
        ended.exits(0).says(&format!("started and stopped: {}\n", services.len()));
        return println!("  {} service directories: started, stopped", services.len());
    }
    let supplied = supply(&mut services);
    services.iter().for_each(|(name, service)| service.write(&dir.join(name), true));
    let check = Command::new(Path::new(programs).join("rc")).arg("check").arg(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    assert!(check.status.success(), "{said}");
    let image = Image::new().expect("there was one a moment ago").env("S6_VERBOSITY=1");
    let definitions = image.etc().join(DEFINITIONS);
    services.iter().for_each(|(name, service)| service.write(&definitions.join(name), false));
    let ended = image.boot(&["sh", "-c", LIFE, "sh", programs]).end();
    ended.exits(0).does_not_say("fatal").does_not_say("warning");
    let atomic = |service: &&Service| service.is("longrun") || service.is("oneshot");
    let count = services.values().filter(atomic).count();
    let started =
        ended.said.lines().find_map(|line| line.strip_prefix("started and stopped: ")).unwrap_or("none");
    println!(
        "  {}: {started} of {count} services started, stopped; {supplied} supplied",
        said.trim_end().lines().last().unwrap_or_default()
    );
}
