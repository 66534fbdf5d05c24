//! Both ends against each other and against hand-written peers, in memory.

mod bidi;
mod flows;
mod hostile;
mod management;
mod table;
mod timeouts;
mod world;
