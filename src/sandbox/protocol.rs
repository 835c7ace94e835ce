//! What goes over the socket between server and worker.
//!
//! A request is two frames, the JSON [`Header`] and the payload; an answer is
//! one frame, the JSON of `Result<Output, JobError>`. A frame is its length
//! (8 bytes, big endian) and its bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Job;

/// Largest header in bytes: a job's parameters are names and options.
pub(super) const MAX_HEADER: u64 = 1 << 20;
/// Largest payload in bytes; a worker's memory ends long before.
pub(super) const MAX_PAYLOAD: u64 = 1 << 32;
/// Largest answer in bytes, which bounds what a worker can make the server
/// hold.
pub(super) const MAX_ANSWER: u64 = 256 << 20;

/// What is to be done.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    /// [`Job::NAME`].
    pub(super) job: String,
    /// Processor time that it may use, in seconds.
    pub(super) cpu_seconds: u64,
    /// The job itself, in JSON.
    pub(super) parameters: Box<RawValue>,
}

/// The header of `job`, in JSON.
///
/// One thread cannot use more processor time than the clock's: it runs out
/// only where the server does not kill the worker, or where several threads
/// are at work.
pub(super) fn header<J: Job>(job: &J, limit: Duration) -> io::Result<Vec<u8>> {
    let parameters = serde_json::value::to_raw_value(job)?;
    let cpu_seconds = limit.as_secs().saturating_add(1);
    Ok(serde_json::to_vec(&Header { job: J::NAME.to_owned(), cpu_seconds, parameters })?)
}

/// Sends a frame from the server's side.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    to.write_u64(frame.len() as u64).await?;
    to.write_all(frame).await
}

/// Receives a frame on the server's side. What is promised is not allocated
/// before it arrives.
pub(super) async fn receive(from: &mut (impl AsyncRead + Unpin), max: u64) -> io::Result<Vec<u8>> {
    let length = checked(from.read_u64().await?, max)?;
    let mut frame = Vec::new();
    from.take(length).read_to_end(&mut frame).await?;
    complete(frame, length)
}

/// Writes a frame from the worker's side.
pub(super) fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(&(frame.len() as u64).to_be_bytes())?;
    to.write_all(frame)
}

/// Reads a frame on the worker's side.
pub(super) fn read(from: &mut impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = checked(u64::from_be_bytes(length), max)?;
    let mut frame = Vec::new();
    from.take(length).read_to_end(&mut frame)?;
    complete(frame, length)
}

fn checked(length: u64, max: u64) -> io::Result<u64> {
    if length <= max { Ok(length) } else { Err(ErrorKind::InvalidData.into()) }
}

fn complete(frame: Vec<u8>, length: u64) -> io::Result<Vec<u8>> {
    if frame.len() as u64 == length { Ok(frame) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
