//! Whether all is well, for whoever asks in order to act: a container engine's health check, an orchestrator.

use super::service::Service;

impl Service {
    /// What is not as it should be; None: all is well. With `named` it should be up, whatever is wanted: without,
    /// a service that nobody wants up is well as long as nobody gave up on it.
    pub fn complaint(&self, named: bool) -> Option<String> {
        let (status, state) = (&self.status, &self.state);
        let mode = state.mode.as_deref();
        Some(match () {
            () if !self.supervised => "not supervised".to_owned(),
            () if mode == Some("gave-up") => "given up".to_owned(),
            () if mode == Some("skipped") => return None,
            () if !status.want_up && !named => return None,
            () if !status.is_up() => match &state.failure {
                Some(failure) => format!("down: {failure}"),
                None => "down".to_owned(),
            },
            () if self.notifies && !status.ready => "not ready".to_owned(),
            () => match &state.unwell {
                Some((times, why)) => format!("health failed {times} times: {why}"),
                None => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Pid;
    use crate::servicedir::state::State;
    use crate::servicedir::status::Status;

    #[test]
    fn complaints() {
        let status = Status { pid: Pid::from_raw(7), want_up: true, ..Status::default() };
        let mut s = Service { supervised: true, status, ..Service::default() };
        assert_eq!(s.complaint(false), None);
        s.notifies = true;
        assert_eq!(s.complaint(false).as_deref(), Some("not ready"));
        s.status.ready = true;
        s.state.unwell = Some((2, "pale".to_owned()));
        assert_eq!(s.complaint(false).as_deref(), Some("health failed 2 times: pale"));
        s.status.pid = None;
        assert_eq!(s.complaint(false).as_deref(), Some("down"));
        s.status.want_up = false;
        assert_eq!((s.complaint(false), s.complaint(true).as_deref()), (None, Some("down")));
        s.state = State { mode: Some("gave-up".to_owned()), ..State::default() };
        assert_eq!(s.complaint(false).as_deref(), Some("given up"));
        s.state.mode = Some("skipped".to_owned());
        assert_eq!(s.complaint(true), None);
        s.supervised = false;
        assert_eq!(s.complaint(false).as_deref(), Some("not supervised"));
    }
}
