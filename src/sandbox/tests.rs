use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::worker::{self, JobEntry, job};
use super::{Confinement, Job, JobError, Probe, Sandbox, SandboxConfig, SandboxError, protocol};

/// What a parser can do to the process it runs in.
#[derive(Debug, Serialize, Deserialize)]
enum Behaviour {
    Answer,
    Refuse,
    Panic,
    Abort,
    Overflow,
    Loop,
    Hoard,
    Print,
    WriteFile(std::path::PathBuf),
    ReadFile(std::path::PathBuf),
    Connect(std::net::SocketAddr),
    Execute,
    Signal(u32),
}

impl Job for Behaviour {
    const NAME: &'static str = "behaviour";
    type Output = (u32, String);

    fn perform(self, payload: Vec<u8>) -> Result<Self::Output, JobError> {
        match self {
            Self::Refuse => return Err(JobError::new("document_malformed", "on purpose")),
            Self::Panic => panic!("on purpose"),
            Self::Abort => std::process::abort(),
            Self::Overflow => drop(dig(1)),
            Self::Loop => loop {
                std::thread::yield_now();
            },
            Self::Hoard => drop(vec![1_u8; 2 << 30]),
            Self::Print => print!("not an answer"),
            Self::WriteFile(path) => {
                let written = std::fs::write(path, "x");
                return Ok((0, written.is_err().to_string()));
            }
            Self::ReadFile(path) => return Ok(tried(std::fs::read(path))),
            Self::Connect(address) => return Ok(tried(std::net::TcpStream::connect(address))),
            Self::Execute => return Ok(tried(Command::new("/proc/self/exe").spawn())),
            Self::Signal(process) => {
                let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
                let kill = rustix::process::kill_process;
                return Ok(tried(kill(process.unwrap(), rustix::process::Signal::KILL)));
            }
            Self::Answer => {}
        }
        Ok((std::process::id(), String::from_utf8_lossy(&payload).into_owned()))
    }
}

/// Whether it was done or refused.
fn tried<T, E: Into<std::io::Error>>(outcome: Result<T, E>) -> (u32, String) {
    let refused = |error: E| format!("{:?}", error.into().kind());
    (0, outcome.map_or_else(refused, |_| "done".to_owned()))
}

/// Recursion that no optimiser turns into a loop.
fn dig(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { dig(depth + 1).wrapping_add(frame[7]) }
}

const JOBS: &[JobEntry] = &[job::<Behaviour>(), job::<Probe>()];
const LONG: Duration = Duration::from_secs(60);

/// Not a test of its own: the other tests start this binary with this test's
/// name to get a worker. Elsewhere standard input is no socket, and `run`
/// says so before it limits anything.
#[test]
fn this_test_is_the_worker_process_of_the_others() {
    let _ = worker::run(JOBS, 1024);
}

const WORKER: [&str; 4] = [
    "sandbox::tests::this_test_is_the_worker_process_of_the_others",
    "--exact",
    "--nocapture",
    "--test-threads=1",
];

fn sandbox(config: SandboxConfig) -> Sandbox {
    Sandbox::with_arguments(config, WORKER.map(String::from).to_vec())
}

async fn call(sandbox: &Sandbox, job: Behaviour) -> Result<(u32, String), SandboxError> {
    let payload = Bytes::from_static(b"payload");
    sandbox.call(job, payload, LONG, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_worker_is_reused_until_it_has_done_its_number_of_jobs() {
    let sandbox = sandbox(SandboxConfig { max_jobs_per_worker: 2, ..Default::default() });
    let (first, echo) = call(&sandbox, Behaviour::Answer).await.unwrap();
    assert_eq!(echo, "payload");
    let (second, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    assert_eq!(first, second);
    let (third, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    assert_ne!(second, third);
}

#[tokio::test]
async fn what_the_work_reports_reaches_the_caller_and_the_worker_stays() {
    let sandbox = sandbox(SandboxConfig::default());
    let (before, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    let refused = call(&sandbox, Behaviour::Refuse).await.unwrap_err();
    assert_eq!(refused, SandboxError::Job(JobError::new("document_malformed", "on purpose")));
    let (after, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_worker_that_dies_is_reported_and_the_next_call_gets_a_new_one() {
    let sandbox = sandbox(SandboxConfig { workers: 1, ..Default::default() });
    for job in [Behaviour::Panic, Behaviour::Abort, Behaviour::Overflow, Behaviour::Hoard] {
        let (before, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
        let name = format!("{job:?}");
        assert_eq!(call(&sandbox, job).await.unwrap_err(), SandboxError::Crashed, "{name}");
        let (after, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
        assert_ne!(before, after, "{name}");
    }
}

#[tokio::test]
async fn a_worker_that_died_while_idle_is_not_handed_out() {
    let sandbox = sandbox(SandboxConfig { workers: 1, ..Default::default() });
    let (first, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    let kill = Command::new("kill").args(["-9", &first.to_string()]).status();
    assert!(kill.unwrap().success());
    // A process can be reaped once the last of its threads is gone, not when
    // the first one is.
    let threads = || std::fs::read_dir(format!("/proc/{first}/task")).map_or(0, Iterator::count);
    let stat = || std::fs::read_to_string(format!("/proc/{first}/stat"));
    while threads() > 1 || stat().is_ok_and(|stat| !stat.contains(") Z")) {
        tokio::task::yield_now().await;
    }
    let (second, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    assert_ne!(first, second);
}

#[tokio::test]
async fn an_endless_loop_is_killed_at_its_limit() {
    let sandbox = sandbox(SandboxConfig { workers: 1, ..Default::default() });
    let limit = Duration::from_millis(200);
    let none = CancellationToken::new();
    let outcome = sandbox.call(Behaviour::Loop, Bytes::new(), limit, &none).await;
    assert_eq!(outcome.unwrap_err(), SandboxError::TimedOut(limit));
    assert!(sandbox.idle().is_empty());
    call(&sandbox, Behaviour::Answer).await.unwrap();
}

#[tokio::test]
async fn cancellation_kills_the_worker_in_the_middle_of_its_job() {
    let sandbox = sandbox(SandboxConfig { workers: 1, ..Default::default() });
    let (before, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    let cancel = CancellationToken::new();
    let looping = sandbox.call(Behaviour::Loop, Bytes::new(), LONG, &cancel);
    let cancelling = async {
        // The worker has left the idle list, so the job is on its way.
        while !sandbox.idle().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(looping, cancelling);
    assert_eq!(outcome.unwrap_err(), SandboxError::Cancelled);
    let (after, _) = call(&sandbox, Behaviour::Answer).await.unwrap();
    assert_ne!(before, after);
}

#[tokio::test]
async fn what_a_parser_prints_or_tries_to_write_does_no_harm() {
    let sandbox = sandbox(SandboxConfig::default());
    let (_, echo) = call(&sandbox, Behaviour::Print).await.unwrap();
    assert_eq!(echo, "payload");
    let folder = tempfile::tempdir().unwrap();
    let job = Behaviour::WriteFile(folder.path().join("file"));
    // A write beyond the size limit raises a signal that ends the process, or
    // fails where that signal is ignored.
    match call(&sandbox, job).await {
        Ok((_, refused)) => assert_eq!(refused, "true"),
        Err(error) => assert_eq!(error, SandboxError::Crashed),
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_worker_opens_no_file_calls_nobody_and_starts_and_ends_no_process() {
    let sandbox = sandbox(SandboxConfig::default());
    let file = tempfile::NamedTempFile::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let attempts = [
        Behaviour::ReadFile(file.path().to_owned()),
        Behaviour::Connect(listener.local_addr().unwrap()),
        Behaviour::Execute,
        Behaviour::Signal(other.id()),
    ];
    for attempt in attempts {
        let name = format!("{attempt:?}");
        let (_, outcome) = call(&sandbox, attempt).await.unwrap();
        assert_eq!(outcome, "PermissionDenied", "{name}");
    }
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
    let kept_from = sandbox.confinement().await.unwrap();
    assert_eq!(kept_from, Confinement { files: true, network: true });
}

/// A server that is frozen, or was killed so that nobody closes its sockets.
#[test]
fn a_worker_that_nobody_kills_ends_when_its_processor_time_is_used_up() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(WORKER)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Twice: what the first job used is not taken from the second's.
    for job in [Behaviour::Answer, Behaviour::Loop] {
        let header = protocol::header(&job, Duration::ZERO).unwrap();
        protocol::write(&mut ours, &header).unwrap();
        protocol::write(&mut ours, b"payload").unwrap();
        if matches!(job, Behaviour::Answer) {
            protocol::read(&mut ours, 1 << 20).unwrap();
        }
    }
    assert!(!worker.wait().unwrap().success());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_reported_as_unavailable() {
    let program = Some("/nonexistent/millrace".into());
    let sandbox = Sandbox::new(SandboxConfig { program, ..Default::default() });
    let outcome = call(&sandbox, Behaviour::Answer).await;
    assert_eq!(outcome.unwrap_err(), SandboxError::Unavailable);
}
