//! The simulator repeats itself; the store passes its seeds; each broken promise is found.

mod repeat;
#[cfg(feature = "sabotage")]
mod sabotages;
mod seeds;
mod soak;
