//! What services are as OpenMetrics text: what a collector reads.
//!
//! Memory and processor time are those of the process of `run` alone.

use super::service::Service;
use crate::process::Pid;
use crate::servicedir::read_file;
use crate::sys::process::page_size;
use crate::time::Tai64n;
use rustix::fs::CWD;
use std::fmt::Write as _;

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Processor time, in hundredths of a second.
    pub cpu: u64,
}

impl Usage {
    /// Of a process; None: there is none, or /proc does not tell.
    pub fn of(pid: Pid) -> Option<Usage> {
        let bytes = read_file(CWD, format!("/proc/{pid}/stat")).ok()?;
        Usage::parse(&String::from_utf8_lossy(&bytes), page_size())
    }

    /// Fields 14, 15 (ticks) and 24 (pages) of `/proc/PID/stat`. A tick is 10 ms in the kernel's interface.
    fn parse(stat: &str, page: u64) -> Option<Usage> {
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Usage { memory: field(24)? * page, cpu: field(14)? + field(15)? })
    }
}

/// A family of metrics: name, kind, unit or nothing, help, and the value for a service that has one.
type Family = (&'static str, &'static str, &'static str, fn(&Seen<'_>) -> Option<String>);

/// A service, and what it uses.
pub struct Seen<'a> {
    /// It.
    pub service: &'a Service,
    /// What its process uses.
    pub usage: Option<Usage>,
    /// The time.
    pub now: Tai64n,
}

const FAMILIES: [Family; 9] = [
    ("up", "gauge", "Whether run is running.", |s| flag(s.service.status.is_up())),
    ("ready", "gauge", "Whether it is up, and ready if it can say so.", |s| {
        let status = &s.service.status;
        flag(status.is_up() && (status.ready || !s.service.notifies))
    }),
    ("wanted_up", "gauge", "Whether it is to be up.", |s| flag(s.service.status.want_up)),
    ("well", "gauge", "Whether it is as wanted and its health check does not fail.", |s| {
        flag(s.service.complaint(false).is_none())
    }),
    ("state_seconds", "gauge", "Since it went up or down.", |s| {
        Some(s.service.status.stamp.age(s.now).as_secs().to_string())
    }),
    ("restarts", "counter", "How often it was started again.", |s| Some(s.service.restarts().to_string())),
    ("deaths", "counter", "How often it died.", |s| Some(s.service.state.deaths.to_string())),
    ("memory_bytes", "gauge", "Resident memory of run.", |s| Some(s.usage?.memory.to_string())),
    ("cpu_seconds", "counter", "Processor time of run.", |s| {
        let cpu = s.usage?.cpu;
        Some(format!("{}.{:02}", cpu / 100, cpu % 100))
    }),
];

fn flag(on: bool) -> Option<String> {
    Some(u8::from(on).to_string())
}

/// The text.
pub fn text(services: &[Seen<'_>]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in FAMILIES {
        let _ =
            write!(text, "# TYPE perennial_service_{name} {kind}\n# HELP perennial_service_{name} {help}\n");
        for unit in ["seconds", "bytes"] {
            if name.ends_with(unit) {
                let _ = writeln!(text, "# UNIT perennial_service_{name} {unit}");
            }
        }
        let suffix = if kind == "counter" { "_total" } else { "" };
        for seen in services {
            if let Some(value) = value(seen) {
                let label = escaped(&seen.service.name);
                let _ = writeln!(text, "perennial_service_{name}{suffix}{{service=\"{label}\"}} {value}");
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servicedir::status::Status;

    #[test]
    fn usage_of_a_process() {
        let mut fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        fields[0] = "S".to_owned();
        let stat = format!("7 (a) b) {}", fields.join(" "));
        assert_eq!(Usage::parse(&stat, 4096), Some(Usage { memory: 24 * 4096, cpu: 29 }));
        assert_eq!(Usage::parse("7 (a) S 1", 4096), None);
        assert!(Usage::of(Pid::own()).is_some_and(|usage| usage.memory > 0));
    }

    #[test]
    fn text_of_a_service() {
        let status = Status { pid: Pid::from_raw(7), want_up: true, ..Status::default() };
        let service = Service { name: "a\"b".into(), supervised: true, status, ..Service::default() };
        let now = Tai64n { secs: 12, nanos: 0 };
        let text = text(&[Seen { service: &service, usage: Some(Usage { memory: 4096, cpu: 105 }), now }]);
        for line in [
            "# TYPE perennial_service_up gauge",
            "perennial_service_up{service=\"a\\\"b\"} 1",
            "perennial_service_state_seconds{service=\"a\\\"b\"} 12",
            "# UNIT perennial_service_cpu_seconds seconds",
            "perennial_service_cpu_seconds_total{service=\"a\\\"b\"} 1.05",
            "perennial_service_restarts_total{service=\"a\\\"b\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is missing:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        // Each family is declared once, and all that is of it stands together.
        let types: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        assert_eq!(types.len(), FAMILIES.len());
    }
}
