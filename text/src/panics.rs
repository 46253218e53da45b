//! Panics of the `tokenizers` library as errors.

use std::{
    cell::Cell,
    fmt,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

thread_local! {
    /// Whether a panic on this thread will be an error.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call into the library, which reports most damage in a file as an error but some as a panic. Nothing is printed of
/// one that is caught.
pub(crate) fn catch_panic<T, E: fmt::Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                others(info);
            }
        }));
    });
    // Nothing that a panic could leave half-changed outlives the call: a tokenizer that fails to load is dropped, and
    // encoding and decoding change only caches that the library locks itself.
    let before = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(before);
    let message = match result {
        Ok(result) => return result.map_err(|e| one_line(&e.to_string())),
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default(),
    };
    Err(one_line(&format!("the file is inconsistent ({message})")))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        let e = catch_panic(|| -> Result<(), String> { panic!("one\n  two {}", 3) }).unwrap_err();
        assert_eq!(e, "the file is inconsistent (one two 3)");
        assert_eq!(catch_panic(|| Err::<(), _>("a\nb")), Err("a b".to_owned()));
        assert_eq!(catch_panic(|| Ok::<_, String>(1)), Ok(1));
        assert!(!CAUGHT.get());
    }
}
