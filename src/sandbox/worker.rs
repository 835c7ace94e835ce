//! The worker's side: what `millrace sandbox-worker` runs.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::protocol::{self, Header};
use super::{Job, JobError, confinement, limits};

/// Stack of the thread that does the work, in bytes: deep nesting ends here,
/// and ends only this process.
const STACK: usize = 256 << 20;

/// A job that a worker can do.
pub struct JobEntry {
    name: &'static str,
    perform: fn(&str, Vec<u8>) -> serde_json::Result<Vec<u8>>,
}

/// Makes the list entry of a job.
pub const fn job<J: Job>() -> JobEntry {
    JobEntry {
        name: J::NAME,
        perform: |parameters, payload| {
            let job: J = serde_json::from_str(parameters)?;
            serde_json::to_vec(&job.perform(payload))
        },
    }
}

/// Takes requests from standard input, which must be a socket, until the
/// server closes it.
///
/// Each job has a thread of its own while this one keeps reading: when the
/// server dies in the middle of a job, the read ends, this returns, and the
/// process ends with it.
///
/// # Errors
/// If standard input is not a socket, or what arrives is not the protocol.
pub fn run(jobs: &'static [JobEntry], memory_mib: u64) -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    let answers = Arc::new(socket.try_clone()?);
    limits::set(memory_mib);
    confinement::confine();
    loop {
        let header = match protocol::read(&mut socket, protocol::MAX_HEADER) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            header => header?,
        };
        let header: Header = serde_json::from_slice(&header)?;
        limits::allow_cpu(header.cpu_seconds);
        let payload = protocol::read(&mut socket, protocol::MAX_PAYLOAD)?;
        let answers = Arc::clone(&answers);
        thread::Builder::new().stack_size(STACK).spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| {
                let answer = perform(jobs, &header, payload)?;
                protocol::write(&mut answers.as_ref(), &answer)
            }));
            // Without an answer the server must not wait: what it sees is the
            // end of this process.
            if !matches!(done, Ok(Ok(()))) {
                std::process::abort();
            }
        })?;
    }
}

/// The answer's frame.
fn perform(jobs: &[JobEntry], header: &Header, payload: Vec<u8>) -> io::Result<Vec<u8>> {
    let unknown = || io::Error::other("no such job");
    let entry = jobs.iter().find(|entry| entry.name == header.job).ok_or_else(unknown)?;
    let answer = (entry.perform)(header.parameters.get(), payload)?;
    if answer.len() as u64 <= protocol::MAX_ANSWER {
        return Ok(answer);
    }
    let detail = format!("the result is larger than {} bytes", protocol::MAX_ANSWER);
    Ok(serde_json::to_vec(&Err::<(), _>(JobError::new("result_too_large", detail)))?)
}
