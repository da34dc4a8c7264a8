//! **Every refusal says which rule was broken, with the numbers, and the next step**: all words of
//! the state in one place, written for a tired operator at 3 a.m.

mod notes;
mod refusals;

pub(super) use notes::*;
pub(super) use refusals::*;

/// "1 period", "2 periods".
fn periods(n: u64) -> String {
    format!("{n} period{}", if n == 1 { "" } else { "s" })
}
