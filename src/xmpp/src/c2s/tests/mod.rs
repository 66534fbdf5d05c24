//! Whole dialogues with a client that is scripted here, in memory.

mod extended;
mod login;
mod management;
mod property;
mod refusals;
mod session;
mod table;
mod timers;
mod world;
