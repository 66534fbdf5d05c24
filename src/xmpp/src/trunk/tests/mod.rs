//! Both ends against each other in memory, and each against a script.

mod cuts;
mod script;
mod world;
