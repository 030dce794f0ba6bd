//! Images as people have built them for s6-overlay: their trees, their idioms, small daemons in place of the
//! big ones. Each is booted by `runc`; its chain of oneshots is complete, its services come up, it stops clean.

#[path = "support/oci.rs"]
#[allow(dead_code)]
mod support;

use support::Image;

const RC: &str = "etc/s6-overlay/s6-rc.d";

/// A service that a daemon of its own says is ready: `notification-fd`, and a check on its socket.
const DAEMON: &str = "exec s6-notifyoncheck -d -n 300 -w 10 -c \"test -S /tmp/NAME.sock\" \
    s6-setuidgid abc perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Local => \"/tmp/NAME.sock\", Listen => 1) or die; \
    print \"NAME listens as $<\\n\"; STDOUT->flush(); 1 while $s->accept()'";

fn image() -> Option<Image> {
    let image = Image::new()?;
    image.file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nabc:x:911:911::/config:/bin/false\n");
    image.file("etc/group", "root:x:0:\nabc:x:911:\n");
    // What images call and these tests need of it, where it is not among our programs.
    let setuidgid =
        "#!/bin/bash\nuser=$1; shift\nexec setpriv --reuid $user --regid $user --clear-groups \"$@\"\n";
    for (name, script) in [("s6-setuidgid", setuidgid), ("exec", "#!/bin/sh\nexec \"$@\"\n")] {
        let there =
            ["command", "usr/bin", "bin"].iter().any(|dir| image.root().join(dir).join(name).exists());
        if !there {
            image.file(&format!("command/{name}"), script);
        }
    }
    Some(image)
}

/// A oneshot whose `up` names a script beside it.
fn oneshot(image: &Image, name: &str, needs: &[&str], script: &str) {
    image.file(&format!("{RC}/{name}/type"), "oneshot\n");
    image.file(&format!("{RC}/{name}/up"), &format!("/{RC}/{name}/run\n"));
    image.file(&format!("{RC}/{name}/run"), &format!("#!/usr/bin/with-contenv bash\n{script}\n"));
    needed(image, name, needs);
}

/// A oneshot that only orders others.
fn milestone(image: &Image, name: &str, needs: &[&str]) {
    image.file(&format!("{RC}/{name}/type"), "oneshot\n");
    image.file(&format!("{RC}/{name}/up"), "# This file does nothing: it is a point in the order\n");
    needed(image, name, needs);
}

/// A longrun; its `run` need not be executable.
fn longrun(image: &Image, name: &str, needs: &[&str], script: &str) {
    use std::os::unix::fs::PermissionsExt;
    image.file(&format!("{RC}/{name}/type"), "longrun");
    let run = format!("{RC}/{name}/run");
    image.file(&run, &format!("#!/usr/bin/with-contenv bash\n{script}\n"));
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(image.root().join(run), mode).unwrap();
    needed(image, name, needs);
}

fn needed(image: &Image, name: &str, needs: &[&str]) {
    needs.iter().for_each(|need| image.file(&format!("{RC}/{name}/dependencies.d/{need}"), ""));
    image.file(&format!("{RC}/user/contents.d/{name}"), "");
}

fn daemon(image: &Image, name: &str, needs: &[&str]) {
    longrun(image, name, needs, &DAEMON.replace("NAME", name));
    image.file(&format!("{RC}/{name}/notification-fd"), "3");
}

#[track_caller]
fn in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        match rest.find(text) {
            Some(at) => rest = &rest[at + text.len()..],
            None => panic!("{text:?} is not there, or too early; all that was printed:\n{said}"),
        }
    }
}

/// The base image of many: a chain of oneshots, a hook that unpacks more, its own `with-contenv`.
fn base(image: &mut Image) {
    let says = |name: &str| format!("echo \"{name} $PUID\"");
    for (name, needs) in [
        ("init-migrations", &[][..]),
        ("init-envfile", &[]),
        ("init-adduser", &["init-migrations"]),
        ("init-device-perms", &["init-adduser"]),
        ("init-crontab-config", &["init-config"]),
        ("init-mods-package-install", &["init-mods"]),
        ("init-custom-files", &["init-mods-end"]),
    ] {
        oneshot(image, name, needs, &says(name));
    }
    for (name, needs) in [
        ("init-os-end", &["init-adduser", "init-device-perms", "init-envfile"][..]),
        ("init-config", &["init-os-end"]),
        ("init-config-end", &["init-config", "init-crontab-config"]),
        ("init-mods", &["init-config-end"]),
        ("init-mods-end", &["init-mods-package-install"]),
        ("init-services", &["init-custom-files"]),
    ] {
        milestone(image, name, needs);
    }
    longrun(image, "svc-cron", &["init-services"], "umask; exec sleep 1000");
    image.file(&format!("{RC}/ci-service-check/type"), "oneshot\n");
    image.file(&format!("{RC}/ci-service-check/up"), "echo \"[ls.io-init] done.\"");
    image.file(&format!("{RC}/ci-service-check/dependencies.d/legacy-services"), "");
    image.file(&format!("{RC}/user2/contents.d/ci-service-check"), "");
    // In place of the overlay's own: a variable counts for services only, known by their directory.
    let with_contenv = "#!/bin/bash\nif [[ -f /run/s6/container_environment/UMASK ]] && [[ $(readlink /proc/$$/cwd) =~ (/run/s6/legacy-services/|/run/s6/services/|/servicedirs/svc-) ]]; then\n  umask \"$(cat /run/s6/container_environment/UMASK)\"\nfi\nexec /command/with-contenv \"$@\"\n";
    std::fs::remove_file(image.root().join("usr/bin/with-contenv")).unwrap();
    image.file("usr/bin/with-contenv", with_contenv);
    let hook = format!(
        "#!/bin/bash\necho hook; mkdir -p /{RC}/custom-svc-x\necho longrun >/{RC}/custom-svc-x/type\n\
         printf '#!/bin/bash\\necho custom service\\nexec sleep 1000\\n' >/{RC}/custom-svc-x/run\n\
         touch /{RC}/user/contents.d/custom-svc-x; mkdir -p /{RC}/custom-svc-x/dependencies.d; touch /{RC}/custom-svc-x/dependencies.d/init-services\n\
         printf 007 >/run/s6/container_environment/UMASK\n"
    );
    image.file("docker-mods", &hook);
    image.environment.extend(
        [
            "S6_STAGE2_HOOK=/docker-mods",
            "S6_VERBOSITY=1",
            "S6_BEHAVIOUR_IF_STAGE2_FAILS=2",
            "PUID=911",
            "S6_CMD_WAIT_FOR_SERVICES_MAXTIME=0",
        ]
        .map(str::to_owned),
    );
}

#[test]
fn a_reverse_proxy_on_three_layers() {
    let Some(mut image) = image() else { return };
    base(&mut image);
    // The second layer adds to what the first defines.
    oneshot(&image, "init-folders", &["init-config"], "echo init-folders");
    oneshot(&image, "init-nginx", &["init-folders"], "echo init-nginx");
    oneshot(&image, "init-permissions", &["init-nginx"], "echo init-permissions");
    milestone(&image, "init-nginx-end", &["init-version-checks"]);
    oneshot(&image, "init-version-checks", &["init-permissions"], "echo init-version-checks");
    image.file(&format!("{RC}/init-config-end/dependencies.d/init-nginx-end"), "");
    daemon(&image, "svc-nginx", &["init-services"]);
    daemon(&image, "svc-php-fpm", &["init-services"]);
    // So does the third.
    oneshot(&image, "init-require-url", &["init-config"], "echo init-require-url");
    oneshot(&image, "init-swag-folders", &["init-permissions"], "echo init-swag-folders");
    oneshot(&image, "init-swag-samples", &["init-swag-folders"], "echo init-swag-samples");
    image.file(&format!("{RC}/init-version-checks/dependencies.d/init-swag-samples"), "");
    oneshot(&image, "init-renew", &["init-require-url"], "echo init-renew");
    image.file(&format!("{RC}/init-config-end/dependencies.d/init-renew"), "");
    longrun(&image, "svc-fail2ban", &["init-services"], "pgrep() { :; }; exec sleep 1000");
    let mut container = image.boot(&[]);
    container.wait_for("[ls.io-init] done.\n");
    container.wait_for("custom service\n");
    container.wait_for("0007\n");
    assert_eq!(
        container.shows(&["/command/svstat", "-o", "up,ready", "/run/service/svc-nginx"]),
        "true true\n"
    );
    container.shows(&["s6-svc", "-r", "/run/service/svc-fail2ban"]);
    let (code, said) = container.stop();
    assert_eq!(code, 0, "{said}");
    in_order(
        &said,
        &[
            "hook\n",
            "init-migrations 911\n",
            "init-adduser 911\n",
            "init-device-perms 911\n",
            "init-folders\n",
        ],
    );
    in_order(
        &said,
        &["init-permissions\n", "init-swag-folders\n", "init-swag-samples\n", "init-version-checks\n"],
    );
    in_order(
        &said,
        &[
            "init-version-checks\n",
            "init-mods-package-install 911\n",
            "init-custom-files 911\n",
            "svc-nginx listens as 911\n",
            "[ls.io-init]",
        ],
    );
    assert!(
        said.contains("svc-php-fpm listens as 911\n") && !said.contains("warning") && !said.contains("fatal"),
        "{said}"
    );
}

#[test]
fn an_editor_in_the_browser() {
    let Some(mut image) = image() else { return };
    base(&mut image);
    oneshot(
        &image,
        "init-code-server",
        &["init-config"],
        "mkdir -p /config; chown abc:abc /config; echo init-code-server",
    );
    image.file(&format!("{RC}/init-config-end/dependencies.d/init-code-server"), "");
    daemon(&image, "svc-code-server", &["init-services"]);
    image.file(&format!("{RC}/svc-code-server/down"), "");
    let mut container = image.boot(&["bash", "-c", "echo command; sleep 1000"]);
    container.wait_for("command\n");
    let (code, said) = container.stop();
    assert_eq!(code, 143, "{said}");
    in_order(&said, &["init-code-server\n", "svc-code-server listens as 911\n", "command\n"]);
}

/// How the finish scripts of an add-on end the container.
const FINISH: &str = "#!/command/with-contenv bashio\nif [[ $1 -eq 256 ]]; then code=$((128 + $2)); else code=$1; fi\n\
    [[ $2 -eq 15 ]] && exit 0\necho \"$code\" >/run/s6-linux-init-container-results/exitcode\nexec /run/s6/basedir/bin/halt\n";

fn bashio(image: &Image) {
    std::os::unix::fs::symlink("/bin/bash", image.root().join("usr/bin/bashio")).unwrap();
}

#[test]
fn a_database_that_is_given_time() {
    let Some(image) = image() else { return };
    bashio(&image);
    oneshot(
        &image,
        "mariadb-pre",
        &["base"],
        "echo 2000 >/run/s6/container_environment/S6_KILL_FINISH_MAXTIME; echo prepared",
    );
    longrun(
        &image,
        "mariadb-core",
        &["mariadb-pre"],
        "trap 'sleep 0.3; echo database closed; exit 0' TERM; echo database open; while :; do sleep 0.01; done",
    );
    image.file(&format!("{RC}/mariadb-core/timeout-kill"), "295000\n");
    image.file(&format!("{RC}/mariadb-core/finish"), FINISH);
    oneshot(&image, "mariadb-post", &["mariadb-core"], "echo post");
    image.file(&format!("{RC}/mariadb-post/down"), &format!("/{RC}/mariadb-post/finish\n"));
    image.file(&format!("{RC}/mariadb-post/finish"), "#!/command/with-contenv bashio\necho post undone\n");
    image.file(&format!("{RC}/mariadb/type"), "bundle\n");
    for name in ["mariadb-core", "mariadb-post", "mariadb-pre"] {
        image.file(&format!("{RC}/mariadb/contents.d/{name}"), "");
    }
    longrun(&image, "mariadb-lock-core", &["mariadb"], "echo >&3; echo locked; exec sleep 1000");
    image.file(&format!("{RC}/mariadb-lock-core/notification-fd"), "3\n");
    let mut container = image.boot(&[]);
    container.wait_for("database open\n");
    container.wait_for(" services up in ");
    let (code, said) = container.stop();
    assert_eq!(code, 0, "{said}");
    // What init says comes another way than what services say.
    in_order(&said, &["prepared\n", "post\n", "locked\n", "post undone\n", "database closed\n"]);
    in_order(&said, &["locked\n", "stopping: SIGTERM", "database closed\n"]);
}

#[test]
fn an_add_on_that_ends_with_its_program() {
    for (end, code) in [("exit 12", 12), ("kill -SEGV $$", 139)] {
        let Some(image) = image() else { return };
        bashio(&image);
        longrun(&image, "piper", &[], &format!("echo >&3; sleep 0.05; {end}"));
        image.file(&format!("{RC}/piper/notification-fd"), "3");
        image.file(&format!("{RC}/piper/finish"), FINISH);
        oneshot(&image, "discovery", &["piper"], "echo discovered");
        let (got, said) = image.boot(&[]).end();
        assert_eq!(got, code, "{said}");
        in_order(&said, &["stopping: halt, called by ", ", service piper\n"]);
    }
}

#[test]
fn oneshots_that_claim_a_shell_and_services_of_both_kinds() {
    let Some(image) = image() else { return };
    image.file(&format!("{RC}/01-acarshub/type"), "oneshot\n");
    image.file(&format!("{RC}/01-acarshub/up"), "#!/bin/sh\nexec /etc/s6-overlay/scripts/01-acarshub.sh\n");
    image.file(
        "etc/s6-overlay/scripts/01-acarshub.sh",
        "#!/command/with-contenv bash\necho script of $GREETING\n",
    );
    let bundle = "etc/s6-overlay/user-bundles.d/user";
    image.file(&format!("{bundle}/contents.d/01-acarshub"), "");
    for name in ["nginx", "webapp"] {
        image.file(&format!("{RC}/{name}/type"), "longrun\n");
        image.file(&format!("{RC}/{name}/run"), "#!/bin/sh\nexec sleep 1000");
        image.file(&format!("{RC}/{name}/dependencies.d/01-acarshub"), "");
        image.file(&format!("{bundle}/contents.d/{name}"), "");
    }
    for name in ["acars_server", "acars_stats"] {
        let run = format!("#!/command/with-contenv bash\necho {name} in $(pwd); echo >&3; exec sleep 1000\n");
        image.file(&format!("etc/services.d/{name}/run"), &run);
        image.file(&format!("etc/services.d/{name}/notification-fd"), "3");
    }
    let mut container = image.boot(&[]);
    container.wait_for(" services up in ");
    assert_eq!(container.shows(&["ls", "/run/service"]), "acars_server\nacars_stats\nnginx\nwebapp\n");
    assert_eq!(container.shows(&["s6-svc", "-d", "/run/s6/legacy-services/acars_stats"]), "");
    let (code, said) = container.stop();
    assert_eq!(code, 0, "{said}");
    in_order(&said, &["script of hello\n", "acars_server in /run/s6/legacy-services/acars_server\n"]);
    in_order(&said, &["legacy-services successfully stopped", "nginx: stopping"]);
    assert!(said.contains("acars_stats in "), "{said}");
}

#[test]
fn an_older_image_that_makes_its_services_when_it_starts() {
    let Some(image) = image() else { return };
    image.file("etc/fix-attrs.d/01-data", "/data true abc 0640 0750\n");
    image.file("data/sub/file", "");
    let make = "#!/usr/bin/with-contenv bash\nfor name in web cron; do\n  mkdir -p /etc/services.d/$name\n\
        printf '#!/usr/bin/with-contenv bash\\necho %s as $(stat -c %%U:%%a /data/sub/file); echo >&3; exec s6-setuidgid abc sleep 1000\\n' $name >/etc/services.d/$name/run\n\
        chmod +x /etc/services.d/$name/run; echo 3 >/etc/services.d/$name/notification-fd\ndone\n";
    image.file("etc/cont-init.d/05-services.sh", make);
    image.file(
        "etc/cont-init.d/99-last",
        "#!/bin/bash\nprintf 'from init' >/var/run/s6/container_environment/ADDED\n",
    );
    let mut container =
        image.boot(&["with-contenv", "bash", "-c", "echo \"command has $ADDED\"; sleep 1000"]);
    container.wait_for("command has from init\n");
    let (code, said) = container.stop();
    assert_eq!(code, 143, "{said}");
    in_order(&said, &["web as abc:640\n", "command has"]);
    assert!(said.contains("cron as abc:640\n"), "{said}");
}

#[test]
fn an_older_image_that_ends_when_its_program_does_and_whose_hook_removes_services() {
    let Some(mut image) = image() else { return };
    image.file(
        "etc/services.d/mosquitto/run",
        "#!/usr/bin/with-contenv bash\necho runs; sleep 0.05; exit 1\n",
    );
    image.file("etc/services.d/mosquitto/finish", "#!/bin/sh\necho \"finish $1\"\nif [ \"$1\" -ne 0 ] && [ \"$1\" -ne 256 ]; then s6-svscanctl -t /var/run/s6/services; fi\n");
    image.file("etc/services.d/unwanted/run", "#!/bin/sh\necho not reached\n");
    image.file("hook", "#!/bin/bash\nrm -r /etc/services.d/unwanted\n");
    image.environment.push("S6_STAGE2_HOOK=/hook".to_owned());
    image.file("etc/cont-finish.d/10-bye", "#!/bin/sh\necho bye\n");
    let (code, said) = image.boot(&[]).end();
    assert_eq!(code, 0, "{said}");
    in_order(&said, &["runs\n", "finish 1\n", "stopping: halt, called by svscanctl\n", "bye\n"]);
    assert!(!said.contains("not reached"), "{said}");
}
