//! The server's side: starting, reusing and killing workers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Confinement, Job, JobError, Probe, SandboxConfig, SandboxError, protocol};

/// Time for a worker to start and to try out what it is kept from.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// The pool of workers. Cheap to clone; workers start when they are first
/// needed and die with the last clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    program: PathBuf,
    arguments: Vec<String>,
    max_jobs: u32,
    /// One permit per worker that may be alive and at work.
    permits: Semaphore,
    idle: Mutex<Vec<Worker>>,
}

/// A child process between two jobs, or owned by the call that uses it.
#[derive(Debug)]
struct Worker {
    child: Child,
    socket: UnixStream,
    jobs: u32,
}

impl Sandbox {
    /// A pool with these settings; no process starts yet.
    pub fn new(config: SandboxConfig) -> Self {
        let memory = format!("--memory-mib={}", config.memory_mib);
        Self::with_arguments(config, vec!["sandbox-worker".to_owned(), memory])
    }

    /// A pool whose workers are started with other arguments: the unit tests'
    /// own binary knows no subcommands.
    pub(super) fn with_arguments(config: SandboxConfig, arguments: Vec<String>) -> Self {
        let pool = Pool {
            program: config.program.unwrap_or_else(own_program),
            arguments,
            max_jobs: config.max_jobs_per_worker.max(1),
            permits: Semaphore::new(config.workers.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::new(Vec::new()),
        };
        Self { pool: Arc::new(pool) }
    }

    /// Runs `job` on `payload` in a worker, for at most `limit` from the
    /// moment a worker takes it.
    ///
    /// Dropping the future kills the worker: none is ever reused half-way.
    ///
    /// # Errors
    /// See [`SandboxError`]; after every error but `Job` the worker is gone
    /// and the next call gets a new one.
    pub async fn call<J: Job>(
        &self,
        job: J,
        payload: Bytes,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<J::Output, SandboxError> {
        let answer = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SandboxError::Cancelled),
            answer = self.answer(&job, payload, limit) => answer?,
        };
        let decoded = tokio::task::spawn_blocking(move || {
            serde_json::from_slice::<Result<J::Output, JobError>>(&answer)
        });
        match decoded.await {
            Ok(Ok(outcome)) => outcome.map_err(SandboxError::Job),
            _ => Err(SandboxError::Crashed),
        }
    }

    /// What workers are kept from on this system, tried out in one.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn confinement(&self) -> Result<Confinement, SandboxError> {
        self.call(Probe, Bytes::new(), PROBE_LIMIT, &CancellationToken::new()).await
    }

    async fn answer<J: Job>(
        &self,
        job: &J,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Vec<u8>, SandboxError> {
        let header = protocol::header(job, limit).map_err(|_| SandboxError::Unavailable)?;
        let _permit = self.pool.permits.acquire().await.map_err(|_| SandboxError::Unavailable)?;
        let mut worker = self.pool.take()?;
        match tokio::time::timeout(limit, worker.ask(&header, &payload)).await {
            Ok(Ok(answer)) => {
                self.pool.give_back(worker);
                Ok(answer)
            }
            Ok(Err(_)) => {
                worker.kill().await;
                Err(SandboxError::Crashed)
            }
            Err(_) => {
                worker.kill().await;
                Err(SandboxError::TimedOut(limit))
            }
        }
    }

    /// Process ids of the workers that wait for work.
    #[cfg(test)]
    pub(super) fn idle(&self) -> Vec<u32> {
        let idle = self.pool.idle.lock().unwrap();
        idle.iter().filter_map(|worker| worker.child.id()).collect()
    }
}

impl Pool {
    /// The worker that was idle for the shortest time, or a new one.
    fn take(&self) -> Result<Worker, SandboxError> {
        while let Some(mut worker) = self.idle().pop() {
            // One that died while idle is dropped, and with that reaped.
            if matches!(worker.child.try_wait(), Ok(None)) {
                return Ok(worker);
            }
        }
        self.start().map_err(|error| {
            tracing::error!(%error, "a sandbox worker could not be started");
            SandboxError::Unavailable
        })
    }

    fn give_back(&self, mut worker: Worker) {
        worker.jobs += 1;
        if worker.jobs < self.max_jobs {
            self.idle().push(worker);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> io::Result<Worker> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(&self.program)
            .arg0("millrace")
            .args(&self.arguments)
            .env_clear()
            // One heap for all threads: each further one would reserve address
            // space that counts against the memory limit.
            .env("MALLOC_ARENA_MAX", "1")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // What parsers print may hold document content.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Worker { child, socket: UnixStream::from_std(ours)?, jobs: 0 })
    }
}

impl Worker {
    async fn ask(&mut self, header: &[u8], payload: &[u8]) -> io::Result<Vec<u8>> {
        protocol::send(&mut self.socket, header).await?;
        protocol::send(&mut self.socket, payload).await?;
        protocol::receive(&mut self.socket, protocol::MAX_ANSWER).await
    }

    /// Kills the process and reaps it before the permit is given back, so that
    /// there are never more processes than permits.
    async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "a sandbox worker could not be killed");
        }
    }
}

/// The running binary. By this name Linux still finds it after the file was
/// replaced by a newer version, whose protocol may differ.
fn own_program() -> PathBuf {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return own.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("millrace"))
}
