//! Measures what evidence costs, as JSON lines on stdout: bytes of a bundle, proofs and checkpoints per second, and
//! `stele-verify` over 1 GiB against a program that does nothing but BLAKE3.
//!
//! `cargo build --release -p stele-evidence --bins --examples`, then `bench_evidence FOLDER`; a file of 1 GiB is made there and removed.
//! Two sides of a comparison alternate in one run (A-B-B-A) and their medians are compared. `bench_evidence --hash FILE` is the
//! small BLAKE3 program.

mod clock;
mod scene;
mod sizes;
mod speed;
mod whole;

use std::error::Error;
use std::path::Path;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--hash", file] => whole::hash(Path::new(file)),
        [folder] => measure(Path::new(folder)),
        _ => Err("bench_evidence FOLDER".into()),
    }
}

fn measure(folder: &Path) -> Outcome {
    let log = scene::Log::new();
    let place = folder.join("evidence");
    let object = scene::Object::make(&place.join("1GiB.bin"))?;
    sizes::report(&log, &object)?;
    speed::report(&log)?;
    whole::report(&log, &object, &place.join("bundle"))?;
    scene::remove(&place)
}

#[expect(clippy::print_stdout, reason = "the result of this program")]
fn row(value: &serde_json::Value) {
    println!("{value}");
}
