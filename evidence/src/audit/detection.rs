//! How likely an audit finds a loss. Floating point is for the reader only: no decision and no format hangs on it.

/// Shares of lost rows that reports speak of.
pub const SHARES: [f64; 5] = [0.0001, 0.001, 0.01, 0.05, 0.34];

/// The sentence that every report carries: what a possession audit can't show.
pub const REPLICAS: &str = "Replicas of a pack are identical, and so are the answers for them: an audit does not show \
                            that m+1 independent copies exist. A node may also have fetched what it was asked for from \
                            another one within the deadline.";

/// Chance that at least one of `asked` rows, drawn with repetition, is among the lost share: 1 - (1 - share)^asked.
pub fn detection(share: f64, asked: u64) -> f64 {
    if asked == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
    let asked = asked as f64;
    -(asked * (-share.clamp(0.0, 1.0)).ln_1p()).exp_m1()
}

/// Chance that at least one of `asked` different rows of `total` is among the `lost` ones:
/// 1 - C(total - lost, asked) / C(total, asked).
pub fn detection_exact(total: u64, lost: u64, asked: u64) -> f64 {
    let (lost, asked) = (lost.min(total), asked.min(total));
    if lost == 0 || asked == 0 {
        return 0.0;
    }
    if asked > total - lost {
        return 1.0;
    }
    // The two counts may change places; the shorter product is the cheaper one.
    let (few, many) = (lost.min(asked), lost.max(asked));
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
    let factor = |i: u64| (total - many - i) as f64 / (total - i) as f64;
    1.0 - (0..few).map(factor).product::<f64>()
}

/// How many rows have to be asked to find a loss of this share with probability `p`, both strictly between 0 and 1;
/// `None` otherwise.
pub fn rows_for(p: f64, share: f64) -> Option<u64> {
    let inside = |x: f64| x > 0.0 && x < 1.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never negative")]
    (inside(p) && inside(share)).then(|| ((-p).ln_1p() / (-share).ln_1p()).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that have to be asked, by chance (lines) and lost share (columns).
    #[test]
    fn table_of_sample_sizes() {
        let table = [
            (0.95, [29_956, 2_995, 299, 59, 8]),
            (0.99, [46_050, 4_603, 459, 90, 12]),
            (0.999, [69_075, 6_905, 688, 135, 17]),
        ];
        for (p, line) in table {
            for (share, rows) in SHARES.into_iter().zip(line) {
                assert_eq!(rows_for(p, share), Some(rows), "{p} {share}");
                assert!(detection(share, rows) >= p && detection(share, rows - 1) < p, "{p} {share}");
            }
        }
        for (p, share) in [(0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0), (f64::NAN, 0.5)] {
            assert_eq!(rows_for(p, share), None);
        }
    }

    /// Chance to see a dead object (n-k+1 shards gone) with 1 to 4 of its shards asked, and the first lost shard with 3.
    #[test]
    fn table_of_shards_of_one_object() {
        let table = [
            (4, 6, [0.50, 0.80, 0.95, 1.0], 0.50),
            (8, 12, [0.42, 0.68, 0.84, 0.93], 0.25),
            (10, 14, [0.36, 0.60, 0.77, 0.87], 0.21),
            (16, 20, [0.25, 0.45, 0.60, 0.72], 0.15),
        ];
        for (k, n, dead, first) in table {
            for (asked, p) in (1..).zip(dead) {
                let found = detection_exact(n, n - k + 1, asked);
                assert!((found - p).abs() < 0.006, "{k}/{n}, {asked}: {found}");
            }
            assert!((detection_exact(n, 1, 3) - first).abs() < 0.006);
        }
    }

    /// Five challenges a day, for 30 days.
    #[test]
    fn evasion_of_repeated_audits() {
        assert!((detection(0.01, 5) - 0.049).abs() < 0.0001);
        assert!((detection(0.01, 150) - 0.779).abs() < 0.0006);
        assert!((detection(0.05, 150) - 0.9995).abs() < 0.0001);
    }

    #[test]
    fn without_repetition_is_never_less_likely() {
        for total in 1..40 {
            for lost in 0..=total {
                for asked in 0..=total {
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let share = lost as f64 / total as f64;
                    let exact = detection_exact(total, lost, asked);
                    assert!(exact >= detection(share, asked) - 1e-12 && (0.0..=1.0).contains(&exact));
                    let certain = lost > 0 && asked > total - lost;
                    assert_eq!(certain, exact == 1.0, "{total} {lost} {asked}");
                }
            }
        }
    }
}
