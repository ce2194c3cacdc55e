//! Which operations, how often.

use std::str::FromStr;

use anyhow::{Context as _, ensure};
use rand::Rng;
use serde::Serialize;

use crate::size::SizeMix;

/// An operation of the load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Create or overwrite.
    Put,
    /// Read all or a range.
    Get,
    /// Read the attributes.
    Head,
    /// List the client's own keys and compare.
    List,
    /// Delete.
    Delete,
    /// Create or overwrite in parts.
    Multipart,
}

const NAMES: [(&str, Op); 6] = [
    ("put", Op::Put),
    ("get", Op::Get),
    ("head", Op::Head),
    ("list", Op::List),
    ("delete", Op::Delete),
    ("multipart", Op::Multipart),
];

/// Operations with weights: `put:40,get:60`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mix(Vec<(Op, u32)>);

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parse = |item: &str| -> anyhow::Result<(Op, u32)> {
            let (name, weight) = item.split_once(':').unwrap_or((item, "1"));
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let (_, op) = known.with_context(|| {
                let names: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
                format!("unknown operation {name:?}; known are {}", names.join(", "))
            })?;
            Ok((*op, weight.parse().with_context(|| format!("not a weight: {weight:?}"))?))
        };
        let mix = text.split(',').map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(mix.iter().any(|(_, weight)| *weight > 0), "all operations have weight 0: {text:?}");
        Ok(Self(mix))
    }
}

impl Mix {
    /// Draws one.
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> Op {
        draw(&self.0, rng)
    }
}

/// Draws a size, then a length from half of it up to itself.
pub(crate) fn draw_len(sizes: &SizeMix, rng: &mut impl Rng) -> u64 {
    let size = draw(&sizes.0, rng).0;
    rng.random_range(size / 2..=size)
}

fn draw<T: Copy>(weighted: &[(T, u32)], rng: &mut impl Rng) -> T {
    let total: u32 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut at = rng.random_range(0..total);
    for (item, weight) in weighted {
        if at < *weight {
            return *item;
        }
        at -= weight;
    }
    unreachable!("the draw is below the sum of the weights")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn only_what_has_weight_is_drawn() {
        let mix: Mix = "put:1,get:0,list:3".parse().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut lists = 0;
        for _ in 0..400 {
            match mix.draw(&mut rng) {
                Op::Put => {}
                Op::List => lists += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((250..350).contains(&lists), "{lists}");
        assert!("put:0".parse::<Mix>().is_err());
        assert!("append:1".parse::<Mix>().is_err());
    }
}
