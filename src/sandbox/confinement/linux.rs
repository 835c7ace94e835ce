//! Landlock, and a filter of system calls.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, Scope};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Calls that a job needs: memory, threads, time, randomness, and what a
/// stream that is open already takes. All others fail with `EPERM`, those that
/// open or name anything outside the process among them.
const ALLOWED: [i64; 38] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_membarrier,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_uname,
];

pub(super) fn confine() {
    // Each is worth having without the other.
    let _ = without_paths();
    for filter in [no_clone3(), only_allowed()].into_iter().flatten() {
        let _ = seccompiler::apply_filter(&filter);
    }
}

/// No path, no TCP and no signal to others, as far as the kernel knows these.
fn without_paths() -> Result<(), RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// The flags of `clone3` lie where no filter can read them. Without it the C
/// library starts threads with `clone`.
fn no_clone3() -> Result<BpfProgram, BackendError> {
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    filter([(libc::SYS_clone3, Vec::new())].into(), SeccompAction::Allow, absent)
}

fn only_allowed() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<_, _> = ALLOWED.map(|call| (call, Vec::new())).into();
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![first(SeccompCmpOp::MaskedEq(thread), thread)?]);
    let own = std::process::id().into();
    rules.insert(libc::SYS_tgkill, vec![first(SeccompCmpOp::Eq, own)?]);
    // Limits of its own: of other processes they could take everything.
    rules.insert(libc::SYS_prlimit64, vec![first(SeccompCmpOp::Eq, 0)?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    filter(rules, refused, SeccompAction::Allow)
}

/// A call whose first argument is so.
fn first(operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    let first = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)?;
    SeccompRule::new(vec![first])
}

/// `matching` for the calls of the rules, `others` for all others.
fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, others, matching, architecture)?.try_into()
}
