//! The manifest of `service-examples/kubernetes`: its form, as far as one can tell without Kubernetes, and whether it
//! fits the definitions beside it and what `init` takes for granted.

use std::process::Command;
use yaml_rust2::{Yaml, YamlLoader};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/service-examples/kubernetes");

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{DIR}/{name}")).unwrap()
}

/// The value at a path of keys with dots between; a number is a place in a list.
fn at<'a>(value: &'a Yaml, path: &str) -> &'a Yaml {
    let mut found = value;
    for key in path.split('.') {
        found = key.parse::<usize>().map_or_else(|_| &found[key], |place| &found[place]);
        assert!(!found.is_badvalue(), "{path}: there is no {key}");
    }
    found
}

fn words(list: &Yaml) -> Vec<&str> {
    list.as_vec().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn the_manifest_has_the_form_of_a_deployment() {
    let all = YamlLoader::load_from_str(&read("deployment.yaml")).unwrap();
    let [deployment] = &all[..] else { panic!("one document") };
    for (path, value) in [("apiVersion", "apps/v1"), ("kind", "Deployment"), ("metadata.name", "web")] {
        assert_eq!(at(deployment, path).as_str(), Some(value), "{path}");
    }
    // A selector that selects other pods is refused.
    assert_eq!(at(deployment, "spec.selector.matchLabels"), at(deployment, "spec.template.metadata.labels"));

    let pod = at(deployment, "spec.template.spec");
    assert_eq!(at(pod, "securityContext.runAsNonRoot").as_bool(), Some(true));
    assert!(at(pod, "securityContext.runAsUser").as_i64().unwrap() > 0);
    let container = at(pod, "containers.0");
    let may = at(container, "securityContext");
    assert_eq!(at(may, "readOnlyRootFilesystem").as_bool(), Some(true));
    assert_eq!(at(may, "allowPrivilegeEscalation").as_bool(), Some(false));
    assert_eq!(words(at(may, "capabilities.drop")), ["ALL"]);

    // What init must be able to write to is there, and each mount has its volume.
    let volumes = at(pod, "volumes").as_vec().unwrap();
    let mounts = at(container, "volumeMounts").as_vec().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"].as_str() == Some("/run")));
    for mount in mounts {
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount:?}");
    }

    // There is more time for a stop than init takes.
    let grace = at(pod, "terminationGracePeriodSeconds").as_i64().unwrap();
    let env = at(container, "env").as_vec().unwrap();
    let budget =
        env.iter().find(|variable| variable["name"].as_str() == Some("PERENNIAL_STOP_TIME")).unwrap();
    let budget: i64 = budget["value"].as_str().expect("values of variables are strings").parse().unwrap();
    assert!(grace * 1000 > budget + 1000);
}

#[test]
fn the_probes_ask_for_services_that_are_there() {
    let all = YamlLoader::load_from_str(&read("deployment.yaml")).unwrap();
    let container = at(&all[0], "spec.template.spec.containers.0");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let command = words(at(container, &format!("{probe}.exec.command")));
        assert_eq!(command[..2], ["/command/svstat", "--probe"], "{probe}");
        for name in &command[2..] {
            assert_eq!(read(&format!("etc/s6-overlay/s6-rc.d/{name}/type")).trim(), "longrun");
        }
        assert!(at(container, &format!("{probe}.periodSeconds")).as_i64().unwrap() >= 1);
    }
    let check = Command::new(env!("CARGO_BIN_EXE_rc")).args(["check", "--root", DIR]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn the_image_is_one_file_and_names() {
    let text = read("Containerfile");
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}");
    has("COPY --from=perennial /out/ /");
    has("RUN [\"/command/rc\", \"check\"]");
    has("USER 1000:1000");
    has("ENTRYPOINT [\"/init\"]");
}
