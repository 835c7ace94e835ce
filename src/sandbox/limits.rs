//! What the system lets a worker use. A limit that the system does not know is
//! left out: the time limit and the process boundary hold all the same.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Open files: the three standard streams, the socket's second handle and
/// room for what the system's libraries open.
const OPEN_FILES: u64 = 16;

/// Limits this process: address space in MiB, no core dump, nothing written.
pub(super) fn set(memory_mib: u64) {
    let limits = [
        (Resource::As, memory_mib.saturating_mul(1 << 20)),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, OPEN_FILES),
    ];
    for (resource, value) in limits {
        let _ = setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    }
}

/// Lets this process use so much more processor time, in seconds, before the
/// system ends it. The system counts from the start of the process.
pub(super) fn allow_cpu(seconds: u64) {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let limit = u64::try_from(used).unwrap_or_default().saturating_add(seconds);
    let maximum = getrlimit(Resource::Cpu).maximum;
    let current = maximum.map_or(limit, |maximum| maximum.min(limit));
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(current), maximum });
}
