use crate::failure::Failure;

/// To be written.
pub(crate) fn run() -> Result<(), Failure> {
    Err(Failure::world("not yet"))
}
