//! `control-group`: the members of a group may control a service, see its state and listen to its events. Said
//! again whenever the files may be new: with each start of run, and with each takeover.

use super::launch::Failure;
use super::service::Service;
use crate::accounts::{Database, parse_group};
use crate::diag::reason;
use crate::servicedir::feature::Faulty;
use crate::servicedir::perms;
use crate::sys::Errno;

impl Service {
    /// Lets the group in that the service's file names, if it names one.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        let Some(name) = self.features().and_then(|f| f.control_group.as_deref()) else { return Ok(()) };
        let faulty = |why| Failure::from(Faulty { file: "control-group", why });
        let gid = Database::groups().ok().and_then(|groups| groups.id(name));
        let gid = gid.or_else(|| parse_group(&format!(":{name}")).ok());
        let Some(gid) = gid else {
            return Err(faulty(format!(
                "there is no group {name} in /etc/group: add it, or write its number"
            )));
        };
        let Some(dir) = &self.dir else { return Ok(()) };
        perms::let_in(dir, gid).map_err(|e: Errno| faulty(format!("unable to let it in: {}", reason(e))))
    }

    /// The same where nothing hangs on it.
    pub(super) fn admit_or_warn(&self) {
        if let Err(failure) = self.admit() {
            self.warn(failure.text);
        }
    }
}
