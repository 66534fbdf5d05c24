//! The framer that came before ours, over `rxml`: slower, and with another reader of XML beneath it.
//! What the two disagree about is a mistake of one of them. Never in a program.

mod fault;
mod framer;
mod scope;

pub(crate) use self::framer::Oracle;
