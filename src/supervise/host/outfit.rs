//! What run, or a script of a oneshot, is given beside its program: environment, account, limits. All that can
//! fail or allocate is done here, before there is a child.

use super::launch::Failure;
use super::notified::Hearing;
use crate::diag::reason;
use crate::scan::Identity;
use crate::servicedir;
use crate::servicedir::account::Account;
use crate::servicedir::environment::Environment;
use crate::servicedir::feature::{Faulty, Features, MOST_VARIABLES};
use crate::sys::attributes::{self, Attributes, User};
use crate::sys::env;
use crate::sys::spawn::CArray;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// See the module's description. What is None is inherited.
#[derive(Default)]
pub(super) struct Outfit {
    pub(super) environment: Option<CArray>,
    pub(super) attributes: Option<Attributes>,
}

impl Outfit {
    /// For run of the service in `dir`, with one variable more that is to be set, if any, and with what it may say,
    /// and to whom.
    pub(super) fn of(
        features: &Features,
        dir: &OwnedFd,
        more: Option<(&str, &str)>,
        hearing: Option<&Hearing>,
    ) -> Result<Outfit, Failure> {
        if !features.has_attributes() && hearing.is_none() {
            return Ok(Outfit::default());
        }
        let account = features.user.as_deref().map(|user| Account::find(user, "")).transpose()?;
        let environment = match features.has_environment() || hearing.is_some() {
            true => Some(environment(features, account.as_ref(), dir, more, hearing)?),
            false => None,
        };
        let attributes = Attributes {
            limits: features.limits.iter().map(|l| (l.resource, l.soft, l.hard)).collect(),
            nice: features.nice,
            oom_score: features.oom_score.map(|n| n.to_string().into_bytes()),
            umask: features.umask,
            brand: None,
            user: account.and_then(|a| User::new(a.uid, a.gid, a.groups)),
        };
        Ok(Outfit { environment, attributes: Some(attributes) })
    }
}

impl Outfit {
    /// Has whoever descends from run known by it, where run leaves them behind.
    pub(super) fn brand(&mut self, features: &Features, identity: Identity) {
        if features.hands_over() && !features.limits.iter().any(|limit| limit.resource == attributes::BRAND) {
            self.attributes.get_or_insert_default().brand = Some(super::follow::brand(identity));
        }
    }
}

/// Ours, one more, what the account adds, `env-file`, `env/`: the later wins.
fn environment(
    features: &Features,
    account: Option<&Account>,
    dir: &OwnedFd,
    more: Option<(&str, &str)>,
    hearing: Option<&Hearing>,
) -> Result<CArray, Failure> {
    let mut environment = Environment::new(env::strings().map(CStr::to_owned).collect());
    more.into_iter().for_each(|(name, value)| environment.set(name.as_bytes(), Some(value.as_bytes())));
    for (name, value) in account.iter().flat_map(|account| account.variables()) {
        environment.set(name.as_bytes(), value.map(str::as_bytes));
    }
    if features.env_file {
        let faulty = |why| Faulty { file: "env-file", why };
        let bytes = servicedir::read_file(dir, "env-file")
            .map_err(|e| faulty(format!("unable to read it: {}", reason(e))))?;
        if bytes.len() > MOST_VARIABLES {
            return Err(faulty(format!("is longer than {MOST_VARIABLES} bytes")).into());
        }
        environment.add_file(&bytes)?;
    }
    if features.env {
        environment.add_dir(dir)?;
    }
    let Some(hearing) = hearing else { return Ok(CArray::new(environment.into_strings())) };
    let (variables, own_pid) = hearing.variables(features);
    for (name, value) in variables {
        environment.set(name.as_bytes(), value.as_deref().map(str::as_bytes));
    }
    Ok(CArray::with_own_pid(environment.into_strings(), &own_pid))
}

impl From<Faulty> for Failure {
    fn from(faulty: Faulty) -> Failure {
        Failure { temporary: false, text: format!("unable to start run: {faulty}"), errno: None }
    }
}
