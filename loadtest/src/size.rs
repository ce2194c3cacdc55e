//! Sizes as people write them: `4KiB`, `1MiB`, `64 MiB`, `512`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (digits, unit) =
            UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit))).unwrap_or((text, 1));
        let digits = digits.trim();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            bail!("not a size: {text:?}; write for example 512, 4KiB, 1MiB");
        }
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        bytes.map(Size).with_context(|| format!("size is out of range: {text:?}"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        let (suffix, unit) = unit.copied().unwrap_or(("B", 1));
        write!(f, "{}{suffix}", self.0 / unit)
    }
}

/// Sizes with weights: `4KiB:60,1MiB:9`. A missing weight is 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SizeMix(pub(crate) Vec<(Size, u32)>);

impl FromStr for SizeMix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parse = |item: &str| -> anyhow::Result<(Size, u32)> {
            let (size, weight) = item.split_once(':').unwrap_or((item, "1"));
            Ok((size.parse()?, weight.parse().with_context(|| format!("not a weight: {weight:?}"))?))
        };
        let sizes = text.split(',').map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        if sizes.iter().all(|(_, weight)| *weight == 0) {
            bail!("all sizes have weight 0: {text:?}");
        }
        Ok(Self(sizes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip_and_bad_ones_are_refused() {
        for (text, bytes) in [("512B", 512), ("4KiB", 4096), ("64MiB", 64 << 20), ("2GiB", 2 << 30)] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes));
            assert_eq!(size.to_string(), text);
        }
        assert_eq!("512".parse::<Size>().unwrap(), Size(512));
        for text in ["", "KiB", "-1", "+1", "4kb", "99999999999GiB", "1.5MiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!("4KiB:0".parse::<SizeMix>().is_err());
        assert_eq!("4KiB:3,1MiB".parse::<SizeMix>().unwrap().0.len(), 2);
    }
}
