//! The erasure-coding code is compiled for AVX2 without a run-time switch. `cli` calls [`check`]
//! first thing, so that an older processor gets a sentence instead of an illegal instruction.

/// This processor lacks instructions that this build uses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this processor lacks {missing}, which this build of Stele uses for erasure coding; \
     run it on an x86-64 processor of 2013 or later (Haswell, Zen)"
)]
pub struct UnsupportedCpu {
    /// Names of the missing extensions.
    pub missing: String,
}

/// Refuses a processor that this build would crash on.
///
/// # Errors
/// [`UnsupportedCpu`] names what is missing.
#[cfg(target_arch = "x86_64")]
pub fn check() -> Result<(), UnsupportedCpu> {
    let needed = [
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("BMI1", std::is_x86_feature_detected!("bmi1")),
        ("BMI2", std::is_x86_feature_detected!("bmi2")),
        ("FMA", std::is_x86_feature_detected!("fma")),
        ("LZCNT", std::is_x86_feature_detected!("lzcnt")),
        ("MOVBE", std::is_x86_feature_detected!("movbe")),
        ("POPCNT", std::is_x86_feature_detected!("popcnt")),
    ];
    refuse_missing(&needed)
}

/// Refuses a processor that this build would crash on: on other architectures the instructions
/// used are part of the base set.
///
/// # Errors
/// None here.
#[cfg(not(target_arch = "x86_64"))]
pub fn check() -> Result<(), UnsupportedCpu> {
    refuse_missing(&[])
}

fn refuse_missing(needed: &[(&str, bool)]) -> Result<(), UnsupportedCpu> {
    let missing: Vec<&str> = needed.iter().filter(|(_, here)| !here).map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(UnsupportedCpu { missing: missing.join(", ") }) }
}

#[cfg(test)]
mod tests {
    use super::refuse_missing;

    #[test]
    fn missing_instructions_are_named() {
        assert!(refuse_missing(&[("AVX2", true)]).is_ok());
        let refused = refuse_missing(&[("AVX2", false), ("FMA", true), ("BMI2", false)]).unwrap_err();
        assert!(refused.to_string().contains("AVX2, BMI2"), "{refused}");
    }
}
