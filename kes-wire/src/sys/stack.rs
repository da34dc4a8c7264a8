//! The secret stack: where functions run that handle a secret.
//!
//! libsodium and our own code leave copies of what they worked on in their stack frames. Here
//! such work runs on a stack of its own in locked memory, which is wiped as soon as the work is
//! done, so that no copy outlives the call.

use core::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::memory::{LockError, LockedBytes};
use super::sodium;

/// Bytes of a secret stack. libsodium's deepest path here (a signature) takes under 8 KiB, see
/// the test; the rest is for the frames of signal handlers that arrive meanwhile.
pub const STACK_BYTES: usize = 16 * 1024;

thread_local! {
    /// One stack a thread, made at its first use.
    static STACK: Cell<Option<LockedBytes<STACK_BYTES>>> = const { Cell::new(None) };
}

/// Runs `work` on this thread's secret stack and wipes that stack before returning.
///
/// What `work` returns is copied to the ordinary stack: it must not be a secret. Secrets go in
/// and out through references to locked memory.
///
/// A panic inside `work` wipes the stack and goes on in the caller. `work` must not need more
/// than [`STACK_BYTES`]: it would run into memsec's canary and guard page, and the process ends.
///
/// # Errors
/// [`LockError`] where the stack cannot be allocated or locked; `work` did not run then.
pub fn run<R>(work: impl FnOnce() -> R) -> Result<R, LockError> {
    let mut stack = match STACK.take() {
        Some(stack) => stack,
        None => LockedBytes::zeroed()?,
    };
    let outcome = run_on(&mut stack, work);
    sodium::wipe(stack.expose_mut());
    STACK.set(Some(stack));
    match outcome {
        Ok(value) => Ok(value),
        Err(panic) => resume_unwind(panic),
    }
}

fn run_on<R>(
    stack: &mut LockedBytes<STACK_BYTES>,
    work: impl FnOnce() -> R,
) -> std::thread::Result<R> {
    let base = stack.expose_mut().as_mut_ptr();
    // memsec puts an allocation of whole pages at the start of a page.
    assert_eq!(base.addr() % 64, 0, "the secret stack is aligned");
    // SAFETY: base and size describe memory that belongs to `stack`, is aligned and sized in
    // multiples of any target's stack alignment, and lies above a canary and a guard page; the
    // callback cannot unwind, because it catches every panic.
    unsafe { psm::on_stack(base, STACK_BYTES, || catch_unwind(AssertUnwindSafe(work))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn leave_a_trace() -> usize {
        let trace = core::hint::black_box([0xA5u8; 256]);
        trace.iter().map(|&b| usize::from(b)).sum()
    }

    fn used_bytes(work: impl FnOnce()) -> usize {
        let mut stack = LockedBytes::zeroed().unwrap();
        run_on(&mut stack, work).unwrap();
        let untouched = stack.expose().iter().take_while(|&&b| b == 0).count();
        STACK_BYTES - untouched
    }

    #[test]
    fn work_leaves_traces_and_they_are_wiped() {
        let mut stack = LockedBytes::zeroed().unwrap();
        run_on(&mut stack, leave_a_trace).unwrap();
        assert!(
            stack.expose().windows(64).any(|w| w == [0xA5; 64]),
            "the trace is there"
        );

        assert_eq!(run(leave_a_trace).unwrap(), 256 * 0xA5);
        let after = STACK.take().unwrap();
        assert!(
            after.expose().iter().all(|&b| b == 0),
            "wiped after the work"
        );
    }

    #[test]
    fn nested_work_and_panics_are_survived() {
        assert_eq!(run(|| run(|| 5).unwrap() + 1).unwrap(), 6);
        let panic = std::panic::catch_unwind(|| run(|| std::panic::resume_unwind(Box::new(3u8))));
        assert_eq!(*panic.unwrap_err().downcast::<u8>().unwrap(), 3);
        assert_eq!(run(|| 7).unwrap(), 7);
    }

    #[test]
    fn libsodium_uses_less_than_half() {
        let (mut secret, mut public, mut signature) = ([0; 64], [0; 32], [0; 64]);
        let keypair = used_bytes(|| sodium::ed25519_keypair(&[7; 32], &mut secret, &mut public));
        let sign = used_bytes(|| sodium::ed25519_sign(&secret, b"message", &mut signature));
        let hash = used_bytes(|| sodium::blake2b(&[1; 64], &mut public));
        for used in [keypair, sign, hash] {
            assert!(
                used > 0 && used < STACK_BYTES / 2,
                "{keypair} {sign} {hash}"
            );
        }
    }
}
