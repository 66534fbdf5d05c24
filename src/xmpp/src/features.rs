//! Stream features: one function per side builds them from the state, so that no code path can
//! forget one.
