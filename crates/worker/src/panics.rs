//! Panics of kernels, as text: what was said, and where.

use std::{
    any::Any,
    cell::RefCell,
    panic::{self, UnwindSafe},
    sync::Once,
};

thread_local! {
    /// Where this thread last panicked; the payload that `catch_unwind` gives does not say it.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic becomes an error that says what and where.
pub(crate) fn catch<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            PLACE.with_borrow_mut(|last| *last = place);
            previous(info);
        }));
    });
    panic::catch_unwind(work).map_err(|payload| {
        let place = PLACE.with_borrow_mut(Option::take);
        let place = place
            .map(|place| format!(" at {place}"))
            .unwrap_or_default();
        format!("panicked{place}: {}", said(&*payload))
    })
}

fn said(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_what_and_where() {
        assert_eq!(catch(|| 7), Ok(7));
        let number = 13;
        let error = catch(|| -> u32 { panic!("unlucky {number}") }).unwrap_err();
        assert!(error.starts_with("panicked at "), "{error}");
        assert!(error.contains("panics.rs:"), "{error}");
        assert!(error.ends_with(": unlucky 13"), "{error}");
    }
}
