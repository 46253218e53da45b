//! What rendering a template may take.

use std::{panic::resume_unwind, thread};

use minijinja::{Error, ErrorKind, State, Value};

/// Steps that one rendering may take: an instruction is one, and so are 64 bytes made or looked through. A long conversation
/// through a large template takes some ten thousand; what takes all of them took about a tenth of a second. Stated in
/// docs/running.md.
pub(crate) const STEPS: u64 = 1_000_000;

/// Bytes that a step is worth.
const STEP_BYTES: usize = 64;

/// Values may lie inside each other as deep as there are steps, and the engine prints, compares and frees them with its own
/// stack, of which a level takes less than this.
const STACK_BYTES: u64 = 512;

/// Takes the steps that so many bytes cost, before they are made.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / STEP_BYTES) as u64)
}

/// Takes the steps that so many items of a list cost.
pub(super) fn charge_items(state: &State<'_, '_>, items: usize) -> Result<(), Error> {
    state.consume_fuel((items as u64).div_ceil(2))
}

/// The items of a list, each of which costs half a step: lists that are joined to themselves are longer than memory.
pub(super) fn items(state: &State<'_, '_>, value: &Value) -> Result<impl Iterator<Item = Result<Value, Error>>, Error> {
    let items = value.try_iter()?.checked();
    Ok(items.enumerate().map(|(index, item)| {
        if index % 2 == 0 {
            state.consume_fuel(1)?;
        }
        item
    }))
}

/// Bytes that may still be made.
pub(super) fn bytes_left(state: &State<'_, '_>) -> usize {
    let steps = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(STEP_BYTES)
}

/// Runs a call that takes at most so many steps where there is stack enough for them. Only what is used of it is memory.
pub(super) fn with_stack<T: Send>(steps: u64, call: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let bytes = usize::try_from(steps.saturating_mul(STACK_BYTES)).unwrap_or(usize::MAX / 2);
    let builder = thread::Builder::new().name("template".to_owned()).stack_size(bytes);
    thread::scope(|scope| {
        let started = builder.spawn_scoped(scope, call).map_err(|e| {
            Error::new(ErrorKind::InvalidOperation, format!("no memory for the stack of a template: {e}"))
        })?;
        started.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
