//! How the bytes of a fuzzer become what happens to a machine.
//!
//! The first byte chooses the world. Then each line is one step:
//!
//! - `!x5`: the owner does `x`, with the argument `5`;
//! - `@h...`: the peer says the phrase `h`, then the rest of the line;
//! - anything else: the peer says the line.

/// More would only be slow.
const STEPS_MAX: usize = 64;

/// One step of a script.
pub(super) enum Step<'a> {
    /// The owner acts: what, and an argument that is a small number.
    Owner(u8, u8),
    /// The peer says this.
    Peer(&'static str, &'a [u8]),
}

/// Reads a script: its world and its steps.
pub(super) fn read(
    data: &[u8],
    phrase: impl Fn(u8) -> &'static str,
) -> (u8, impl Iterator<Item = Step<'_>>) {
    let (world, lines) = data.split_first().map_or((0, data), |(world, lines)| (*world, lines));
    // What a machine does before anybody has said a word is looked at too.
    let begin = std::iter::once(Step::Owner(b' ', 0));
    let steps = lines.split(|byte| *byte == b'\n').take(STEPS_MAX).map(move |line| match line {
        [b'!', act, rest @ ..] => {
            Step::Owner(*act, rest.first().map_or(0, |digit| digit.wrapping_sub(b'0')))
        }
        [b'@', name, rest @ ..] => Step::Peer(phrase(*name), rest),
        other => Step::Peer("", other),
    });
    (world, begin.chain(steps))
}
