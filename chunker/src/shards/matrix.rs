//! How shards follow from one another: the code's generator matrix and the inverse of k' of its rows.

use reed_solomon_erasure::galois_8::{ReedSolomon, add, div, mul};
use stele_types::scheme::Scheme;

use super::CoderError;

/// One row of k' factors per shard.
#[derive(Debug)]
pub(super) struct Matrix {
    rows: Vec<Vec<u8>>,
}

/// The generator matrix, taken from the coder itself: parity of unit vectors.
pub(super) fn generator(scheme: Scheme, codec: Option<&ReedSolomon>) -> Result<Matrix, CoderError> {
    let k = scheme.k();
    let mut rows: Vec<Vec<u8>> = (0..k).map(|row| unit(k, row)).collect();
    match codec {
        None => rows.extend((0..scheme.m()).map(|_| unit(k, 0))),
        Some(codec) => {
            // Column c of data shard r is 1 where r = c, so parity row p holds its factors.
            let data: Vec<Vec<u8>> = rows.clone();
            let mut parity = vec![vec![0u8; k]; scheme.m()];
            codec.encode_sep(&data, &mut parity).map_err(CoderError::Library)?;
            rows.extend(parity);
        }
    }
    Ok(Matrix { rows })
}

fn unit(k: usize, at: usize) -> Vec<u8> {
    (0..k).map(|column| u8::from(column == at)).collect()
}

impl Matrix {
    /// Factors that make shard `wanted` of the shards `have`; `None` if these do not determine it,
    /// which k' different shards always do.
    pub(super) fn factors(&self, wanted: u8, have: &[u8]) -> Option<Vec<u8>> {
        let target = self.rows.get(usize::from(wanted))?;
        let k = target.len();
        // Solve x * A = target, with the rows of A those of the shards at hand: the columns of A
        // are equations, so A is transposed and the target appended as the right-hand side.
        let mut system: Vec<Vec<u8>> = Vec::with_capacity(k);
        for (column, right) in target.iter().enumerate() {
            let factor = |shard: &u8| self.rows.get(usize::from(*shard))?.get(column).copied();
            let mut equation = have.iter().map(factor).collect::<Option<Vec<u8>>>()?;
            equation.push(*right);
            system.push(equation);
        }
        solve(system)
    }
}

/// Gauss-Jordan elimination over GF(256).
fn solve(mut system: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let n = system.len();
    for pivot in 0..n {
        let row = (pivot..n).find(|row| system[*row][pivot] != 0)?;
        system.swap(pivot, row);
        let scale = system[pivot][pivot];
        let normalized: Vec<u8> = system[pivot].iter().map(|v| div(*v, scale)).collect();
        for (at, other) in system.iter_mut().enumerate() {
            let factor = if at == pivot { 0 } else { other[pivot] };
            for (value, by) in other.iter_mut().zip(&normalized) {
                *value = add(*value, mul(factor, *by));
            }
        }
        system[pivot] = normalized;
    }
    Some(system.into_iter().filter_map(|row| row.last().copied()).collect())
}
