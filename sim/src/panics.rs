//! Panics of tasks, which nobody joins, are findings too.
//!
//! A run is one thread, so a counter per thread belongs to one run at a time. The hook prints as
//! before and is installed once.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static INSTALLED: Once = Once::new();

/// Notes panics of this thread from now on; forgets earlier ones.
pub(crate) fn watch() {
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // While a thread ends its locals may be gone.
            SEEN.try_with(|seen| seen.borrow_mut().push(info.to_string())).ok();
            before(info);
        }));
    });
    SEEN.with(|seen| seen.borrow_mut().clear());
}

/// Panics since [`watch`].
pub(crate) fn seen() -> Vec<String> {
    SEEN.with(|seen| std::mem::take(&mut *seen.borrow_mut()))
}
