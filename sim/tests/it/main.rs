//! The simulator repeats itself; the store passes its seeds; each broken promise is found.

mod repeat;
mod seeds;
#[cfg(feature = "sabotage")]
mod sabotages;
