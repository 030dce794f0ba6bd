//! What the interoperability scenarios stand on: two kits of programs, and a world with one for the clients
//! and one for the supervisors.

use super::runner::{self, Scenario as Case};
use super::{Programs, Ran, Running};
use std::ops::Deref;
use std::path::Path;
use std::process::ExitCode;

/// Whose programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kit {
    /// Debian's `s6` package.
    S6,
    /// Ours, under s6's names.
    Ours,
}

impl Kit {
    fn programs(self) -> Programs {
        let dir = match self {
            Kit::S6 => "/usr/bin".into(),
            Kit::Ours => runner::shared_dir().join("programs"),
        };
        Programs { dir, prefix: "s6-" }
    }

    /// Whether it can be used here.
    pub fn is_installed(self) -> bool {
        self == Kit::Ours || Path::new("/usr/bin/s6-svscan").exists()
    }
}

/// A scenario's place in the list.
pub type Scenario = (&'static str, fn(&World));

/// A world in which two kits meet.
pub struct World {
    /// Whose clients are tried.
    pub clients: Kit,
    /// Whose supervisors they speak to.
    pub daemons: Kit,
    world: super::World,
}

impl Deref for World {
    type Target = super::World;
    fn deref(&self) -> &super::World {
        &self.world
    }
}

impl World {
    fn new(clients: Kit, daemons: Kit) -> World {
        World { clients, daemons, world: super::World::new(clients.programs(), daemons.programs()) }
    }

    /// Runs a program of one kit to its end.
    pub fn run_of(&self, kit: Kit, program: &str, args: &[&str]) -> Ran {
        self.start_with(kit, program, args).end()
    }

    /// Starts a program of one kit.
    pub fn start_with(&self, kit: Kit, program: &str, args: &[&str]) -> Running {
        self.start_of(&kit.programs(), program, args)
    }
}

/// Runs all scenarios in all combinations of kits.
pub fn run(scenarios: &[Scenario], executable: &str) -> ExitCode {
    let kits: Vec<Kit> = [Kit::S6, Kit::Ours].into_iter().filter(|kit| kit.is_installed()).collect();
    let mut cases = Vec::new();
    for (name, scenario) in scenarios {
        for clients in kits.iter().copied() {
            for daemons in kits.iter().copied() {
                let id = format!("{name}: {clients:?} clients, {daemons:?} daemons");
                cases.push(Case::new(id, move || scenario(&World::new(clients, daemons))));
            }
        }
    }
    runner::run("interop", &cases, || {
        if !Kit::S6.is_installed() {
            println!("interop: s6 is not installed: our programs are only tried with each other");
        }
        let ours = Kit::Ours.programs();
        Programs::link(executable, ours.dir, ours.prefix);
    })
}
